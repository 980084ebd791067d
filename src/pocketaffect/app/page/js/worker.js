// The networks, off the page's thread: a picture comes in, boxes and numbers go out, and the picture is dropped.

import * as ort from "/web/ort.wasm.bundle.min.mjs";
import { cutSquare, placeSquare } from "./crop.js";
import { BORDERS, DETECTOR_SIZE, decodeFaces, letterbox, spread, toPlanes } from "./detect.js";

const RUNTIME = "/web/ort-wasm-simd-threaded.wasm";
ort.env.wasm.initTimeout = 60_000; // milliseconds; a runtime that cannot start would keep us waiting for ever
ort.env.wasm.numThreads = 1; // a small network gains nothing from more, and one thread repeats to the bit

let detector;
let networks;
let facts;
const small = new OffscreenCanvas(DETECTOR_SIZE, DETECTOR_SIZE).getContext("2d", { willReadFrequently: true });
const whole = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });

self.onmessage = async ({ data }) => {
  try {
    if (data.kind === "load") await load(data.facts);
    else self.postMessage({ kind: "result", id: data.id, ...(await look(data.picture)) });
  } catch (error) {
    self.postMessage({ kind: "failure", id: data.id, message: String(error?.message ?? error) });
  }
};

async function load(served) {
  facts = served;
  const files = [RUNTIME, "/web/face-detector.onnx", ...facts.files];
  const [runtime, ...models] = await Promise.all(files.map(read));
  ort.env.wasm.wasmBinary = runtime; // it would fetch it by itself, and not tell us where that fails
  const sessions = [];
  for (const model of models) sessions.push(await ort.InferenceSession.create(model, { executionProviders: ["wasm"] }));
  [detector, ...networks] = sessions;
  self.postMessage({ kind: "ready" });
}

async function read(url) {
  const answer = await fetch(url).catch(() => null);
  if (!answer?.ok) throw new Error(`the server did not give ${url}.`);
  return new Uint8Array(await answer.arrayBuffer());
}

async function look(picture) {
  const start = performance.now();
  const { width, height } = picture;
  let faces = [];
  for (const border of BORDERS) {
    faces = await findFaces(picture, border);
    if (faces.length) break; // else it looks again in a wider copy: a face that fills the picture is missed otherwise
  }
  const detected = performance.now();
  if (!faces.length) {
    picture.close();
    return { width, height, faces, times: { detect: detected - start } };
  }
  const square = placeSquare(faces[0], facts.crop_margin);
  const crop = cut(picture, square);
  picture.close();
  const cropped = performance.now();
  const answer = await predict(crop);
  return {
    width,
    height,
    faces,
    square,
    ...answer,
    times: { detect: detected - start, crop: cropped - detected, infer: performance.now() - cropped },
  };
}

async function findFaces(picture, border) {
  const { width, height } = picture;
  const frame = letterbox(width, height, border);
  small.fillStyle = "black";
  small.fillRect(0, 0, DETECTOR_SIZE, DETECTOR_SIZE);
  for (const part of spread(width, height, frame, border)) small.drawImage(picture, ...part);
  const planes = toPlanes(small.getImageData(0, 0, DETECTOR_SIZE, DETECTOR_SIZE).data);
  const found = await detector.run({ image: new ort.Tensor("float32", planes, [1, 3, DETECTOR_SIZE, DETECTOR_SIZE]) });
  return decodeFaces(found.scores.data, found.boxes.data, frame).filter(
    ({ x, y, width: wide, height: high }) =>
      0 <= x + wide / 2 && x + wide / 2 <= width && 0 <= y + high / 2 && y + high / 2 <= height,
  );
}

function cut(picture, square) {
  const left = Math.max(0, Math.min(picture.width - 1, square.left));
  const top = Math.max(0, Math.min(picture.height - 1, square.top));
  const part = {
    left,
    top,
    width: Math.max(1, Math.min(picture.width, square.left + square.side) - left),
    height: Math.max(1, Math.min(picture.height, square.top + square.side) - top),
  };
  if (whole.canvas.width < part.width) whole.canvas.width = part.width;
  if (whole.canvas.height < part.height) whole.canvas.height = part.height;
  whole.globalCompositeOperation = "copy";
  whole.drawImage(picture, part.left, part.top, part.width, part.height, 0, 0, part.width, part.height);
  return cutSquare(whole.getImageData(0, 0, part.width, part.height).data, part, square, facts.input_size);
}

async function predict(crop) {
  const image = new ort.Tensor("float32", crop, [1, 3, facts.input_size, facts.input_size]);
  const outputs = {};
  for (const network of networks) Object.assign(outputs, await network.run({ image }));
  const [valence, arousal] = outputs.valence_arousal.data;
  return { probabilities: Array.from(outputs.probabilities.data), valence, arousal };
}
