// The page: a canvas to draw on, the shares as they are sent, and the answer. ?server=URL&helper=URL names the servers.
import { Client } from "./mpcc.js";

const byId = (id) => document.getElementById(id);
const address = new URLSearchParams(location.search);
const urls = [address.get("server") ?? "http://127.0.0.1:8000", address.get("helper") ?? "http://127.0.0.1:8001"];
const client = new Client(...urls);
const canvas = byId("draw"), pen = canvas.getContext("2d", { willReadFrequently: true });

function clear() {
  pen.fillStyle = "black"; // strokes are light on dark, as in most collections of digits
  pen.fillRect(0, 0, canvas.width, canvas.height);
  byId("answer").textContent = "";
  byId("bars").replaceChildren();
}

function draw(event) {
  if (event.type === "pointerdown") {
    canvas.setPointerCapture(event.pointerId);
    pen.beginPath();
    pen.moveTo(event.offsetX, event.offsetY);
  }
  if (event.buttons !== 1) return;
  pen.strokeStyle = "white";
  pen.lineWidth = canvas.width / 10;
  pen.lineCap = pen.lineJoin = "round";
  pen.lineTo(event.offsetX, event.offsetY);
  pen.stroke();
}

/** Shares as pixels: the bytes as they travel, grey. */
function showShare(id, bytes) {
  const target = byId(id), side = Math.max(1, Math.floor(Math.sqrt(bytes.length)));
  target.width = target.height = side;
  target.style.width = target.style.height = "128px";
  const image = new ImageData(side, side);
  for (let i = 0; i < side * side; i++) image.data.set([bytes[i], bytes[i], bytes[i], 255], 4 * i);
  target.getContext("2d").putImageData(image, 0, 0);
}

function text(tag, content, name = "") {
  const made = document.createElement(tag);
  made.textContent = content;
  made.className = name;
  return made;
}

function showAnswer(answer, noise) {
  const values = answer.outputs[0].values, largest = Math.max(...values), least = Math.min(...values);
  byId("answer").replaceChildren(
    text("strong", answer.label), text("span", `  in ${answer.seconds.toFixed(2)} s`),
    ...answer.warnings.map((line) => text("div", `unlike calibration: ${line}`, "warning")),
  );
  const order = Array.from(values.keys()).sort((a, b) => values[b] - values[a]).slice(0, 10);
  byId("bars").replaceChildren(...order.map((i) => {
    const bar = text("div", "", "bar"), fill = document.createElement("div");
    fill.style.width = `${(100 * (values[i] - least)) / (largest - least || 1)}%`;
    bar.append(text("span", answer.labels[i] ?? String(i)), fill, text("span", values[i].toFixed(2)));
    return bar;
  }));
  byId("bars").title = `noise of standard deviation ${noise} hides roundings of hidden values`;
}

/** The answer for what is on the canvas; tests call it with pixels of their own. */
export async function ask(picture = pen.getImageData(0, 0, canvas.width, canvas.height)) {
  byId("ask").disabled = true;
  byId("answer").textContent = "asking both servers ...";
  try {
    const model = await client.model(), answer = await client.predict(picture);
    answer.sent.forEach((bytes, i) => showShare(["first", "second"][i], bytes));
    showAnswer(answer, model.outputs[0].noise);
    return { label: answer.label, top: answer.top, values: Array.from(answer.outputs[0].values), seconds: answer.seconds };
  } catch (error) {
    byId("answer").replaceChildren(text("span", error.message, "error"));
    throw error;
  } finally {
    byId("ask").disabled = false;
  }
}

async function drop(event) {
  event.preventDefault();
  canvas.classList.remove("over");
  const file = event.dataTransfer?.files[0];
  if (!file) return;
  const picture = await createImageBitmap(file).catch(() => null);
  if (!picture) {
    byId("answer").replaceChildren(text("span", `${file.name} is no picture`, "error"));
    return;
  }
  pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
  const whole = new OffscreenCanvas(picture.width, picture.height).getContext("2d");
  whole.drawImage(picture, 0, 0);
  await ask(whole.getImageData(0, 0, picture.width, picture.height)).catch(() => {});
}

async function about() {
  try {
    const model = await client.model();
    for (const [name, content] of Object.entries(model.security)) byId("about").append(text("dt", name), text("dd", content));
    byId("about").append(text("dt", "Model"), text("dd", model.digest));
  } catch (error) {
    byId("answer").replaceChildren(text("span", error.message, "error"));
  }
}

for (const kind of ["pointerdown", "pointermove"]) canvas.addEventListener(kind, draw);
canvas.addEventListener("dragover", (event) => {
  event.preventDefault();
  canvas.classList.add("over");
});
canvas.addEventListener("dragleave", () => canvas.classList.remove("over"));
canvas.addEventListener("drop", drop);
byId("ask").addEventListener("click", () => ask().catch(() => {}));
byId("clear").addEventListener("click", clear);
byId("server").textContent = urls[0];
byId("helper").textContent = urls[1];
clear();
about();
window.ask = ask; // for tests
