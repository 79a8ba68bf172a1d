// A square to draw on with mouse, finger or pen: white ink on black.
// `value` is the drawing, a PNG as a data URL; '' while the square is empty.
const SIDE = 280; // pixels
const STROKE = 24; // as wide as MNIST's strokes, when a digit fills the square
const INTERVAL = 400; // milliseconds between two updates of `value` during a stroke

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
  Object.assign(ink, { lineWidth: STROKE, lineCap: "round", lineJoin: "round", strokeStyle: "white" });
  let last = null; // the end of the stroke that is being drawn
  let sent = 0; // when `value` was last updated

  function wipe() {
    ink.fillStyle = "black";
    ink.fillRect(0, 0, SIDE, SIDE);
  }
  function send(value) {
    sent = Date.now();
    model.set("value", value);
    model.save_changes();
  }
  function position(event) {
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
    last = position(event);
    drawTo(last);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last) return;
    drawTo(position(event));
    if (Date.now() - sent > INTERVAL) send(canvas.toDataURL("image/png"));
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, () => {
      if (last) send(canvas.toDataURL("image/png"));
      last = null;
    });
  }
  clear.addEventListener("click", () => {
    wipe();
    send("");
  });

  wipe();
  if (model.get("value")) {
    const earlier = new Image();
    earlier.onload = () => ink.drawImage(earlier, 0, 0);
    earlier.src = model.get("value");
  }
}

export default { render };
