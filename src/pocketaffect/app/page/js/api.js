// Calls to the server. Only numbers and names of songs are sent.

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function call(method, path, body, token) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (token) headers.Authorization = `Bearer ${token}`;
  let answer;
  try {
    answer = await fetch(`/api${path}`, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new ApiError(0, "the server does not answer.");
  }
  const content = answer.status === 204 ? null : await answer.json().catch(() => null);
  if (!answer.ok) throw new ApiError(answer.status, content?.problem?.split("\n")[0] ?? `the server said ${answer.status}.`);
  return content;
}

export const readModel = () => call("GET", "/model");
export const readMusic = () => call("GET", "/music");
export const readStudy = () => call("GET", "/study");
export const suggestSongs = (wish) => call("POST", "/songs", wish);
export const sendRating = (rating) => call("POST", "/ratings", rating);
export const forgetListener = (listener) => call("DELETE", `/listeners/${encodeURIComponent(listener)}`);
export const beginRun = (version) => call("POST", "/study/runs", { version });
export const saveRow = (token, row) => call("PUT", "/study/run/rows", row, token);
export const readRun = (token) => call("GET", "/study/run", undefined, token);
export const withdrawRun = (token) => call("DELETE", "/study/run", undefined, token);

/** What leaves the page of an affect: its numbers, rounded to what matters. */
export function affectNumbers(affect) {
  const rounded = (value) => Math.round(value * 1e6) / 1e6;
  return {
    probabilities: affect.probabilities.map(rounded),
    valence: rounded(affect.valence),
    arousal: rounded(affect.arousal),
  };
}
