// A square to draw on with mouse, finger or pen: white ink on black. `value` is the drawing as a PNG, a data URL, '' while it is empty.
const SIDE = 280;
const WIDTH = 24; // of a stroke: about that of MNIST's, when a digit fills the square
const EVERY = 400; // milliseconds between two looks at a stroke that is still being drawn

function render({ model, el }) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIDE;
  canvas.style.cssText = "background: black; cursor: crosshair; touch-action: none; display: block";
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "A square to draw a digit on");
  const clear = document.createElement("button");
  clear.textContent = "Clear";
  clear.className = "jupyter-button";
  el.append(canvas, clear);

  const ink = canvas.getContext("2d");
  Object.assign(ink, { lineWidth: WIDTH, lineCap: "round", lineJoin: "round", strokeStyle: "white" });
  let last = null;
  let told = 0;

  function wipe() {
    ink.fillStyle = "black";
    ink.fillRect(0, 0, SIDE, SIDE);
  }
  function tell(value) {
    told = Date.now();
    model.set("value", value);
    model.save_changes();
  }
  function place(event) {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) * SIDE) / box.width, ((event.clientY - box.top) * SIDE) / box.height];
  }
  function drawTo(point) {
    ink.beginPath();
    ink.moveTo(...last);
    ink.lineTo(...point);
    ink.stroke();
    last = point;
  }
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    last = place(event);
    drawTo(last);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last) return;
    drawTo(place(event));
    if (Date.now() - told > EVERY) tell(canvas.toDataURL("image/png"));
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, () => {
      if (last) tell(canvas.toDataURL("image/png"));
      last = null;
    });
  }
  clear.addEventListener("click", () => {
    wipe();
    tell("");
  });

  wipe();
  if (model.get("value")) {
    const before = new Image();
    before.onload = () => ink.drawImage(before, 0, 0);
    before.src = model.get("value");
  }
}

export default { render };
