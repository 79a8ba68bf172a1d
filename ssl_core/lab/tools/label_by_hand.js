// One image to label, large, its neighbours, and a button and a key for each answer; see label_by_hand.py. If the view has a
// `check`, the image has a label, which is to be kept or not; see label_decisions.py.
// `view` is everything that is shown. Each answer goes back as a message, and until the next view comes, nothing else does:
// who types fast answers no image that was not on screen.
const PATIENCE = 4000; // milliseconds until it is said that no answer comes
const COMMANDS = {
  ArrowLeft: "undo", Backspace: "undo", ArrowRight: "skip", "-": "no_class",
  ArrowUp: "keep_given", ArrowDown: "correct", Delete: "drop",
};

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function button(text, key, act) {
  const made = element("button", { type: "button" }, element("span", { class: "name" }, text));
  if (key) {
    made.prepend(element("kbd", { "aria-hidden": "true" }, key));
    made.setAttribute("aria-keyshortcuts", key);
  }
  made.addEventListener("click", act);
  return made;
}

function render({ model, el }) {
  let waiting = 0; // the timer of an answer whose view has not come yet
  const view = () => model.get("view");

  const progress = element("strong");
  const file = element("span", { class: "file" });
  const picture = element("img");
  const fault = element("p", { class: "fault" });
  const caption = element("figcaption");
  const message = element("p", { class: "message", role: "status", "aria-live": "polite" });
  const classes = element("div", { class: "classes", role: "group", "aria-label": "Classes", tabindex: "0" });
  const box = element("input", { type: "text", "aria-label": "Class by name", autocomplete: "off", spellcheck: "false" });
  const add = button("", "", () => label(view().can_add ? box.value : meant().name));
  const commands = {
    undo: button("Undo", "←", () => send("undo")),
    skip: button("Skip", "→", () => send("skip")),
    no_class: button("Not an image of any class", "-", () => send("no_class")),
  };
  const reason = element("p", { class: "reason" });
  const choices = {
    keep_given: button("Keep", "↑", () => send("keep_given")),
    correct: button("Correct", "↓", () => send("correct")),
    drop: button("No label", "Del", () => send("drop")),
  };
  const check = element("div", { class: "check", role: "group", "aria-label": "The label" }, ...Object.values(choices));
  const question = element("div", { class: "question", role: "group", "aria-label": "Two answers" });
  const neighbors = element("div", { class: "neighbors", role: "group", "aria-label": "Its neighbours", tabindex: "0" });
  const panel = element(
    "div",
    { class: "label-by-hand", role: "group", "aria-label": "Label images by hand", tabindex: "0" },
    element("div", { class: "head" }, progress, file),
    reason,
    element("figure", {}, element("div", { class: "frame" }, picture, fault), caption),
    element(
      "div",
      { class: "answers" },
      check,
      classes,
      element("div", { class: "find" }, element("kbd", { "aria-hidden": "true" }, "/"), box, add),
      element("div", { class: "commands" }, ...Object.values(commands)),
      element("div", { class: "notice" }, message, question),
    ),
    neighbors,
    element("p", { class: "hint" }, "Click here, then the keys work."),
  );
  el.append(panel);

  function send(what, more = {}) {
    if (waiting) return;
    waiting = setTimeout(() => (message.textContent = "No answer yet: is the kernel running?"), PATIENCE);
    panel.setAttribute("aria-busy", "true");
    model.send({ do: what, image: view().image, ...more });
  }
  function label(name) {
    if (!name.trim() || view().question || !view().image) return;
    if ([box, add].includes(document.activeElement)) panel.focus({ preventScroll: true });
    box.value = "";
    send("label", { label: name });
  }
  function fitting() {
    const beginning = box.value.trim().toLowerCase();
    return view().classes.filter((each) => each.name.toLowerCase().startsWith(beginning));
  }
  // The class that Enter in the box stands for: that of this very name, or the only one that begins so.
  function meant() {
    const typed = box.value.trim();
    const same = view().classes.find((each) => each.name === typed);
    return same || (typed && fitting().length === 1 ? fitting()[0] : null);
  }

  function drawClasses() {
    const { can_add, question, image, unwritten } = view();
    const shown = new Map([...classes.children].map((each) => [each.dataset.name, each]));
    const wanted = fitting().map(({ name, key, count }) => {
      const made = shown.get(name) || button(name, key, () => label(name));
      made.dataset.name = name;
      made.classList.toggle("unwritten", name === unwritten);
      if (!made.querySelector(".count")) made.append(element("span", { class: "count" }));
      made.querySelector(".count").textContent = count;
      made.querySelector(".count").setAttribute("aria-label", `${count} images`);
      made.disabled = Boolean(question) || !image;
      return made;
    });
    // A button that stays is not moved: it keeps the focus.
    for (const each of [...classes.children]) if (!wanted.includes(each)) each.remove();
    wanted.forEach((each, i) => classes.children[i] !== each && classes.insertBefore(each, classes.children[i] || null));
    const typed = box.value.trim();
    add.hidden = !typed || (!meant() && !can_add);
    add.hidden ||= can_add && view().classes.some((each) => each.name === typed);
    add.querySelector(".name").textContent = can_add ? `New class: ${typed}` : "Choose";
    add.disabled = Boolean(question) || !image;
    box.placeholder = can_add ? "the beginning of a class, or a new one" : "the beginning of a class";
  }

  function drawCheck() {
    const { check: shown, image, question } = view();
    check.hidden = reason.hidden = !shown;
    panel.classList.toggle("checks", Boolean(shown));
    if (!shown) return;
    check.style.visibility = reason.style.visibility = image ? "" : "hidden"; // they keep their places
    const number = shown.evidence ? `, wrong with probability ${shown.evidence}` : "";
    reason.replaceChildren(element("strong", {}, `Labelled ${shown.given}`), `${number}: ${shown.why}`);
    choices.keep_given.querySelector(".name").textContent = `Keep ${shown.given}`;
    choices.correct.querySelector(".name").textContent = `Correct to ${shown.suggested}`;
    choices.correct.hidden = !shown.suggested;
    for (const each of Object.values(choices)) each.disabled = Boolean(question) || !image;
  }

  function drawQuestion() {
    const asked = view().question;
    question.hidden = !asked;
    question.replaceChildren();
    if (!asked) return;
    question.append(
      element("p", { role: "alert" }, `Somebody else answered meanwhile: ${asked.theirs}. Which is it?`),
      button(`Keep ${asked.theirs}`, "", () => send("keep")),
      button(`Write ${asked.mine}`, "", () => send("overwrite")),
    );
  }

  function drawNeighbors() {
    neighbors.replaceChildren(
      ...view().neighbors.map(({ name, picture, told }) =>
        element("figure", {}, element("img", { src: picture, alt: `Neighbour ${name}`, title: name }), element("figcaption", {}, told || "·")),
      ),
    );
    if (!view().neighbors.length) neighbors.textContent = view().image ? "Its neighbours are not known: no graph of them is made." : "";
  }

  function draw() {
    const shown = view();
    const wasInside = panel.contains(document.activeElement);
    clearTimeout(waiting);
    waiting = 0;
    panel.removeAttribute("aria-busy");
    progress.textContent = shown.progress;
    file.textContent = file.title = `Answers go to ${shown.file}`;
    picture.hidden = !shown.picture;
    if (shown.picture) picture.src = shown.picture;
    panel.setAttribute("aria-label", shown.check ? "Check labels" : "Label images by hand");
    picture.alt = shown.image ? `The image to ${shown.check ? "check" : "label"}: ${shown.image}` : "";
    fault.textContent = shown.fault || (shown.image ? "" : "No image is left.");
    caption.textContent = shown.image && `image ${shown.image}` + (shown.now ? `, now: ${shown.now}` : "");
    message.hidden = Boolean(shown.question);
    message.textContent = shown.message;
    message.classList.toggle("problem", Boolean(shown.unwritten));
    commands.undo.disabled = !shown.can_undo || Boolean(shown.question);
    commands.skip.disabled = commands.no_class.disabled = !shown.image || Boolean(shown.question);
    drawCheck();
    drawClasses();
    drawQuestion();
    drawNeighbors();
    if (shown.question) question.querySelector("button").focus({ preventScroll: true });
    const focused = document.activeElement;
    // A button that is gone or disabled loses the focus: the next key would go to the notebook.
    if (wasInside && (!panel.contains(focused) || focused.disabled)) panel.focus({ preventScroll: true });
    if (shown.others) {
      fault.textContent = `${shown.done} `;
      fault.append(button(`Go on with the ${shown.others} others`, "", () => send("go_on")));
    }
  }

  panel.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return; // JupyterLab's, as Ctrl S, or a keyboard's
    event.stopPropagation(); // JupyterLab would take 0 0 for a restart of the kernel, and x for cutting the cell
    if (event.target === box) {
      // Of several classes that begin so none is meant, nor a new one: that takes its button.
      if (event.key === "Enter" && (meant() || (view().can_add && !fitting().length))) label((meant() || { name: box.value }).name);
      if (event.key === "Escape") {
        box.value = "";
        panel.focus({ preventScroll: true });
        drawClasses();
      }
      return;
    }
    const name = COMMANDS[event.key];
    const key = commands[name] || (!check.hidden && choices[name]);
    const own = (key) => view().classes.find((each) => each.key === key);
    const chosen = own(event.key) || own(event.key.toLowerCase()) || own(event.key.toUpperCase());
    if (event.key === "/") box.focus();
    else if (key && !key.hidden && !event.repeat) key.click();
    else if (chosen && !event.repeat) label(chosen.name);
    else return;
    event.preventDefault();
  });
  box.addEventListener("input", drawClasses);
  model.on("change:view", draw);
  draw();
}

export default { render };
