// Thin client of `mpcc serve` for browsers and node: an input into two shares, two shares of the answer into numbers.
//
//   const client = new Client("https://a.example", "https://b.example");
//   const answer = await client.predict(imageData);         // of a canvas, or {data, width, height} with RGBA bytes
//   answer.label, answer.outputs[0].values, answer.seconds, answer.warnings
//
// No dependencies. Serve this file yourself: whoever delivers it can read what is typed into the page.

import { computed, known, topOf, words } from "./answers.js";

const FORMAT = "mpcc served model 2";
const ID_BYTES = 16, DIGEST_BYTES = 16;
const MOST_WORDS = 2 ** 27;
const LARGEST = 2 ** 20; // of an input, as everywhere in mpcc
const RANDOM_BYTES = 65536; // what getRandomValues gives at once
const PATIENT = new Set([408, 503]);
const SOON_SECONDS = 0.5;

/** An error that says what is wrong; `status` where a server has answered with one. */
export class MpccError extends Error {
  constructor(message, status = 0, retryAfter = SOON_SECONDS) {
    super(message);
    this.name = "MpccError";
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** Uniform bytes of the platform's cryptographic generator. */
export function randomBytes(count) {
  const bytes = new Uint8Array(count);
  for (let start = 0; start < count; start += RANDOM_BYTES) {
    crypto.getRandomValues(bytes.subarray(start, Math.min(count, start + RANDOM_BYTES)));
  }
  return bytes;
}

/** Numbers -> integers round(value * scale) modulo 2^64. */
export function encode(values, scale) {
  const words = new BigUint64Array(values.length);
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (typeof value !== "number" || !(Math.abs(value) <= LARGEST)) {
      throw new MpccError(`the input has the value ${value}, which the model cannot compute with`);
    }
    words[i] = BigInt.asUintN(64, BigInt(Math.round(value * scale)));
  }
  return words;
}

/** Integers -> two shares as they travel (little-endian), each uniform on its own; drawn anew in every call. */
export function split(words) {
  const mask = randomBytes(8 * words.length), rest = new Uint8Array(8 * words.length);
  const drawn = new DataView(mask.buffer), left = new DataView(rest.buffer);
  for (let i = 0; i < words.length; i++) {
    left.setBigUint64(8 * i, BigInt.asUintN(64, words[i] - drawn.getBigUint64(8 * i, true)), true);
  }
  return [mask, rest];
}

/** Two shares of an answer -> numbers. */
export function joined(first, second, scale) {
  const one = new DataView(first.buffer, first.byteOffset, first.byteLength);
  const other = new DataView(second.buffer, second.byteOffset, second.byteLength);
  const values = new Float64Array(first.byteLength / 8);
  for (let i = 0; i < values.length; i++) {
    values[i] = Number(BigInt.asIntN(64, one.getBigUint64(8 * i, true) + other.getBigUint64(8 * i, true))) / scale;
  }
  return values;
}

// ---- preprocessing: the numbers of mpcc.client.preprocess --------------------------------------------------------------

const LUMA = [0.299, 0.587, 0.114];
const FILTERS = {
  box: [0.5, (x) => (x > -0.5 && x <= 0.5 ? 1 : 0)],
  bilinear: [1, (x) => Math.max(0, 1 - Math.abs(x))],
  bicubic: [2, (x) => {
    x = Math.abs(x);
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
  }],
};

/** Per resulting pixel: the first source pixel, and the weights from there on. */
function weights(size, wanted, interpolation) {
  const [reach, filter] = FILTERS[interpolation];
  const ratio = size / wanted, stretch = Math.max(1, ratio), rows = [];
  for (let i = 0; i < wanted; i++) {
    const centre = (i + 0.5) * ratio, row = [];
    let first = 0, sum = 0;
    for (let j = Math.max(0, Math.floor(centre - reach * stretch) - 1); j < size; j++) {
      const distance = (j + 0.5 - centre) / stretch;
      if (distance > reach) break;
      const weight = size === wanted ? (i === j ? 1 : 0) : distance < -reach ? 0 : filter(distance);
      if (row.length === 0) first = j;
      row.push(weight);
      sum += weight;
    }
    rows.push([first, row.map((weight) => weight / sum)]);
  }
  return rows;
}

const clipped = (value) => Math.min(255, Math.max(0, value));

/** One plane [height, width] -> [newHeight, newWidth], with the filters of Pillow: first the width, then the height. */
export function resampled(plane, height, width, newHeight, newWidth, interpolation) {
  const across = new Float64Array(height * newWidth), down = new Float64Array(newHeight * newWidth);
  weights(width, newWidth, interpolation).forEach(([first, row], x) => {
    for (let y = 0; y < height; y++) {
      let sum = 0;
      for (let k = 0; k < row.length; k++) sum += row[k] * plane[y * width + first + k];
      across[y * newWidth + x] = clipped(sum);
    }
  });
  weights(height, newHeight, interpolation).forEach(([first, row], y) => {
    for (let x = 0; x < newWidth; x++) {
      let sum = 0;
      for (let k = 0; k < row.length; k++) sum += row[k] * across[(first + k) * newWidth + x];
      down[y * newWidth + x] = clipped(sum);
    }
  });
  return down;
}

function cropped(plane, height, width, newHeight, newWidth) {
  const made = new Float64Array(newHeight * newWidth);
  const offset = (size, wanted) => (size >= wanted ? Math.floor((size - wanted) / 2) : -Math.floor((wanted - size) / 2));
  const top = offset(height, newHeight), left = offset(width, newWidth);
  for (let y = 0; y < newHeight; y++) {
    for (let x = 0; x < newWidth; x++) {
      const fromY = y + top, fromX = x + left;
      if (fromY >= 0 && fromY < height && fromX >= 0 && fromX < width) made[y * newWidth + x] = plane[fromY * width + fromX];
    }
  }
  return made;
}

/** RGBA bytes of a canvas -> the model's input, channel by channel. */
export function preprocessed({ data, width, height }, how) {
  const count = width * height, planes = [0, 1, 2].map(() => new Float64Array(count));
  for (let i = 0; i < count; i++) {
    const alpha = data[4 * i + 3] / 255; // on white, as pages show it
    for (let c = 0; c < 3; c++) planes[c][i] = data[4 * i + c] * alpha + 255 * (1 - alpha);
  }
  const grey = how.channels === "L";
  const chosen = grey ? [planes[0].map((_, i) => LUMA.reduce((sum, w, c) => sum + w * planes[c][i], 0))] : planes;
  const resize = how.resize ?? [], crop = how.crop ?? [];
  let [newHeight, newWidth] = [height, width];
  if (resize.length === 2) [newHeight, newWidth] = resize;
  if (resize.length === 1) {
    const shorter = Math.min(height, width);
    newHeight = Math.max(1, Math.floor((height * resize[0]) / shorter));
    newWidth = Math.max(1, Math.floor((width * resize[0]) / shorter));
  }
  const rescale = how.rescale ?? 1 / 255, parts = chosen.map((plane, c) => {
    let made = resampled(plane, height, width, newHeight, newWidth, how.interpolation ?? "bilinear");
    if (crop.length === 2) made = cropped(made, newHeight, newWidth, crop[0], crop[1]);
    return made.map((value) => (value * rescale - how.mean[c]) / how.std[c]);
  });
  const result = new Float64Array(parts.length * parts[0].length);
  parts.forEach((part, c) => result.set(part, c * part.length));
  return result;
}

// ---- ranges ------------------------------------------------------------------------------------------------------------

/** What of an input is unlike calibration: extremes and moments (mpcc.client.ranges compares more). */
export function inputOutside(values, seen, calls) {
  let least = Infinity, most = -Infinity, sum = 0, squares = 0;
  for (const value of values) {
    least = Math.min(least, value);
    most = Math.max(most, value);
    sum += value;
    squares += value * value;
  }
  const mean = sum / values.length, deviation = Math.sqrt(Math.max(0, squares / values.length - mean * mean));
  const found = { "smallest value": least, "largest value": most, mean, "standard deviation": deviation };
  const width = seen["largest value"][1] - seen["smallest value"][0], lines = [];
  for (const [key, value] of Object.entries(found)) {
    if (!(key in seen)) continue;
    const [low, high] = seen[key];
    const slack = ((high - low) * 4) / Math.sqrt(calls) + width * Math.max(1 / 256, 1 / (4 * calls));
    if (!(value >= low - slack && value <= high + slack)) {
      lines.push(`${key} ${value.toPrecision(4)}, calibrated ${low} to ${high}`);
    }
  }
  return lines;
}

// ---- the client --------------------------------------------------------------------------------------------------------


function checkedModel(found, url) {
  const whole = (size) => Number.isInteger(size) && size > 0 && size <= MOST_WORDS;
  const value = (one) => Array.isArray(one?.shape) && one.shape.every(whole) && words(one.shape) <= MOST_WORDS
    && Number.isFinite(one.scale) && one.scale !== 0;
  const publicPart = (one) => one == null || (Array.isArray(one.inputs) && one.inputs.every((input) => Array.isArray(input?.shape)
    && input.shape.every(whole) && words(input.shape) <= MOST_WORDS) && /^[0-9a-f]{64}$/.test(one.sha256));
  const good = found?.format === FORMAT && /^[0-9a-f]{64}$/.test(found.digest) && Array.isArray(found.inputs)
    && Array.isArray(found.outputs) && found.inputs.length > 0 && found.outputs.length > 0
    && [...found.inputs, ...found.outputs].every(value) && publicPart(found.prefix) && known(found.answers, found.outputs.length);
  if (!good) throw new MpccError(`${url}: this is no server of mpcc, or of another version`);
  return found;
}

/** The two servers of a model. */
export class Client {
  /** `digest`: the model that is expected, if it is known. `attempts`: with new shares each, where a server is busy.
   *  `prefix(file, inputs)`: runs the public part of a model that has one, an ONNX file (Uint8Array), on arrays of numbers, and
   *  gives an array of numbers for each of its outputs; see README.md for onnxruntime-web. */
  constructor(server, helper, { digest = null, attempts = 4, strict = false, prefix = null } = {}) {
    this.urls = [server, helper].map((url) => url.replace(/\/+$/, ""));
    if (this.urls[0] === this.urls[1]) throw new MpccError("server and helper are one: it would see the input");
    this.digest = digest;
    this.attempts = attempts;
    this.strict = strict;
    this.prefix = prefix;
    this.read = null;
    this.file = null;
  }

  /** What the servers say of their model; they must agree. Read once. */
  model() {
    this.read ??= this.#read().catch((error) => {
      this.read = null;
      throw error;
    });
    return this.read;
  }

  /** The answer for a picture: ImageData, or {data, width, height} with RGBA bytes. */
  async predict(picture) {
    const model = await this.model();
    if (!model.preprocess) throw new MpccError("the model says nothing of preprocessing: use ask()");
    return this.ask(preprocessed(picture, model.preprocess));
  }

  /** The answer for inputs in the model's own order, normalised: an array of numbers each. */
  async ask(...given) {
    const model = await this.model(), warnings = [], parts = [];
    const inputs = model.prefix ? await this.#public(model.prefix, given) : given;
    if (inputs.length !== model.inputs.length) throw new MpccError(`the model takes ${model.inputs.length} inputs`);
    inputs.forEach((values, i) => {
      const { name, shape, scale } = model.inputs[i];
      if (values.length !== words(shape)) {
        throw new MpccError(`input ${name}: ${values.length} values, the model takes ${words(shape)}`);
      }
      parts.push(encode(values, scale));
      const known = model.calibration;
      if (known) warnings.push(...inputOutside(values, known.inputs[i], known.calls).map((line) => `input ${name}: ${line}`));
    });
    if (this.strict && warnings.length) throw new MpccError(`nothing was sent: ${warnings.join("; ")}`);
    const whole = new BigUint64Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
      whole.set(part, at);
      at += part.length;
    }
    for (let attempt = 1; ; attempt++) {
      const start = performance.now();
      try {
        const sent = split(whole);
        const got = await this.#exchange(sent, model);
        return this.#answer(model, sent, got, (performance.now() - start) / 1000, warnings);
      } catch (error) {
        const later = error instanceof MpccError ? PATIENT.has(error.status) : true;
        if (!later || attempt >= this.attempts) throw error;
        await new Promise((wake) => setTimeout(wake, 1000 * (error.retryAfter ?? SOON_SECONDS) * (1 + Math.random() / 2)));
      }
    }
  }

  async #read() {
    const [server, helper] = await Promise.all(this.urls.map(async (url) => {
      const reply = await fetch(`${url}/v1/model`);
      if (!reply.ok) throw new MpccError(`${url}: HTTP ${reply.status}`, reply.status);
      return checkedModel(await reply.json(), url);
    }));
    if (server.role !== "server" || helper.role !== "helper") throw new MpccError("give the server first, then the helper");
    const agree = ["digest", "inputs", "outputs", "answers", "prefix"].every((key) => JSON.stringify(server[key]) === JSON.stringify(helper[key]));
    if (!agree) throw new MpccError("server and helper serve different models");
    if (this.digest && this.digest !== server.digest) throw new MpccError("another model is served than was expected");
    return server;
  }

  /** What is shared of a model that begins with a public part: what that part makes of the input, here. */
  async #public(known, given) {
    if (!this.prefix) {
      throw new MpccError("the model begins with a public part, which the client computes: give Client a `prefix` that runs it");
    }
    if (given.length !== known.inputs.length) throw new MpccError(`the model takes ${known.inputs.length} inputs`);
    given.forEach((values, i) => {
      const { name, shape } = known.inputs[i];
      if (values.length !== words(shape)) {
        throw new MpccError(`input ${name}: ${values.length} values, the model takes ${words(shape)}`);
      }
    });
    this.file ??= this.#fetched(known).catch((error) => {
      this.file = null;
      throw error;
    });
    return this.prefix(await this.file, given);
  }

  async #fetched(known) {
    const reply = await fetch(`${this.urls[0]}/v1/prefix`);
    if (!reply.ok) throw new MpccError(`${this.urls[0]}: HTTP ${reply.status}`, reply.status);
    const file = new Uint8Array(await reply.arrayBuffer());
    const found = Array.from(new Uint8Array(await crypto.subtle.digest("SHA-256", file)), (byte) => byte.toString(16).padStart(2, "0"));
    if (found.join("") !== known.sha256) throw new MpccError("this is not the public part that both servers name");
    return file;
  }

  async #exchange(shares, model) {
    const id = randomBytes(ID_BYTES), size = 8 * model.outputs.reduce((sum, one) => sum + words(one.shape), 0);
    const digest = Uint8Array.from({ length: DIGEST_BYTES }, (_, i) => parseInt(model.digest.slice(2 * i, 2 * i + 2), 16));
    const ending = new AbortController();
    try {
      return await Promise.all(this.urls.map(async (url, i) => {
        const body = new Uint8Array(ID_BYTES + DIGEST_BYTES + shares[i].length);
        body.set(id);
        body.set(digest, ID_BYTES);
        body.set(shares[i], ID_BYTES + DIGEST_BYTES);
        const reply = await fetch(`${url}/v1/infer`, { method: "POST", body, signal: ending.signal });
        if (!reply.ok) {
          const said = await reply.json().catch(() => ({}));
          const wait = Number(reply.headers.get("Retry-After")) || SOON_SECONDS;
          throw new MpccError(`${url}: HTTP ${reply.status}: ${said.error ?? "no reason given"}`, reply.status, wait);
        }
        const bytes = new Uint8Array(await reply.arrayBuffer());
        if (bytes.length !== size) throw new MpccError(`${url}: an answer of ${bytes.length} bytes, ${size} are due`);
        return bytes;
      }));
    } catch (error) {
      ending.abort(); // the other request waits for nothing
      throw error;
    }
  }

  #answer(model, sent, got, seconds, warnings) {
    let at = 0;
    const opened = model.outputs.map(({ shape, scale }, i) => {
      const [first, second] = got.map((bytes) => bytes.slice(8 * at, 8 * (at + words(shape))));
      at += words(shape);
      const values = joined(first, second, scale), largest = model.calibration?.outputs?.[i];
      const found = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      if (largest !== undefined && !(found <= 2 * largest)) {
        warnings.push(`output ${i}: magnitude ${found.toPrecision(4)}, calibrated up to ${largest}`);
      }
      return { shape, values };
    });
    const outputs = computed(opened, model.answers), top = topOf(opened, outputs, model.answers);
    const labels = model.preprocess?.labels ?? [];
    return { outputs, opened, top, label: labels[top] ?? String(top), labels, seconds, warnings, sent, received: got };
  }
}
