// A click on the head of a column sorts the rows by it; another click reverses the order.
// A column is sorted by number if each of its cells begins with one; "–" stands for no value and counts as the smallest.
"use strict";

function values(rows, column) {
  const texts = rows.map((row) => row.cells[column].innerText.trim());
  const numbers = texts.map((text) => (text === "–" ? -Infinity : parseFloat(text)));
  return numbers.some(Number.isNaN) ? texts : numbers;
}

function sort(head) {
  const table = head.closest("table");
  const rows = [...table.tBodies[0].rows];
  const descending = head.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.querySelectorAll("th")) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const keys = new Map(values(rows, head.cellIndex).map((value, i) => [rows[i], value]));
  const order = (one, other) => (keys.get(one) > keys.get(other)) - (keys.get(one) < keys.get(other));
  rows.sort((one, other) => (descending ? order(other, one) : order(one, other)));
  table.tBodies[0].append(...rows);
}

for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => sort(button.parentElement));
}
