"use strict";
// Everything that comes from the run (names of columns, classes, what was typed) is written by
// textContent and value: none of it is ever read as HTML.
const at = (id) => document.getElementById(id);
const made = (tag, text = "", kind = "") => {
  const element = document.createElement(tag);
  element.textContent = text;
  element.className = kind;
  return element;
};
const MOST_BARS = 6;
const MOST_TRIES = 5; // of an explanation while another row is being explained
const SLIGHT = 0.12; // of the strongest word: what is weaker isn't shaded
let token = "";
let about = null;
let asked = 0;
let leaving = null;

async function call(path, rows) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const request = { headers, credentials: "omit" };
  if (rows) {
    request.method = "POST";
    headers["Content-Type"] = "application/json";
    request.body = JSON.stringify({ rows });
    request.signal = leaving.signal;
  }
  const response = await fetch(path, request);
  let content = null;
  try {
    content = await response.json();
  } catch {
    content = { error: `the server answered ${response.status}`, fields: [] };
  }
  return { status: response.status, content, wait: Number(response.headers.get("Retry-After") ?? 1) };
}

async function open() {
  let found;
  try {
    found = await call("metadata");
  } catch {
    return tell("The server can't be reached.");
  }
  if (found.status === 401) {
    if (token) tell("This isn't the token.");
    at("entry").hidden = false;
    return at("token").focus();
  }
  if (found.status !== 200) return tell(found.content.error);
  tell("");
  about = found.content;
  at("entry").hidden = true;
  at("row").hidden = false;
  at("title").textContent = about.run;
  document.title = `${about.run}: try the model`;
  at("about").textContent = describe();
  at("fields").replaceChildren(...about.columns.map(field));
  at("explain").hidden = Boolean(about.unexplained);
  if (about.unexplained) at("hint").textContent += ` This server doesn't explain: ${about.unexplained}.`;
  at("fields").querySelector("textarea, input")?.focus();
}

function describe() {
  const parts = [`Predicts ${about.target ?? "the target"}`];
  if (about.classes.length) parts.push(`one of ${about.classes.length} classes`);
  if (about.predicts === "labels") parts[1] = `any of ${about.classes.length} labels`;
  const [score] = Object.entries(about.scores);
  if (score && score[1].value !== null) {
    const { value, low, high } = score[1];
    const ends = low === null || high === null ? "" : ` [${low.toFixed(3)}, ${high.toFixed(3)}]`;
    parts.push(`${score[0]} ${value.toFixed(3)}${ends} (${about.scored})`);
  }
  return `${parts.join("; ")}.`;
}

function field(column, number) {
  const box = made("div");
  const label = made("label", column.name);
  label.append(" ", made("span", column.role === "numeric" ? "number" : column.role, "note"));
  const input = made(column.role === "text" ? "textarea" : "input");
  input.id = `field-${number}`;
  label.htmlFor = input.id;
  if (column.role === "text") input.maxLength = about.limits.characters;
  if (column.role === "numeric") {
    input.type = "number";
    input.step = "any";
  }
  box.append(label, input);
  if (column.values?.length) {
    const known = made("datalist");
    known.id = `known-${number}`;
    known.append(...column.values.map((value) => Object.assign(made("option"), { value })));
    input.setAttribute("list", known.id);
    box.append(known);
  }
  const fault = made("p", "", "fault");
  fault.id = `fault-${number}`;
  fault.hidden = true;
  input.setAttribute("aria-describedby", fault.id);
  box.append(fault);
  return box;
}

function row() {
  const cells = about.columns.map((column, number) => {
    const { value } = at(`field-${number}`);
    if (value === "") return [column.name, null];
    return [column.name, column.role === "numeric" ? Number(value) : value];
  });
  return Object.fromEntries(cells);
}

async function ask(explained) {
  const mine = ++asked;
  const sent = row();
  leaving?.abort(); // the server ends an explanation that nobody waits for
  leaving = new AbortController();
  busy(true);
  tell("");
  at("why").hidden = true;
  const labelled = await answered("predict", sent, mine);
  if (!labelled) return;
  at("label").hidden = false;
  label(labelled.rows[0]);
  at("predict").disabled = at("explain").disabled = false;
  if (!explained || labelled.rows[0].problem) return busy(false);
  at("lead").textContent = "Finding out why. It takes a few seconds.";
  at("reasons").replaceChildren();
  at("why").hidden = false;
  const found = await answered("explain", sent, mine);
  if (!found) return;
  busy(false);
  why(found, sent);
}

// The content of an answer; nothing where it was refused, or a later question has been asked.
async function answered(path, sent, mine) {
  let found;
  try {
    found = await call(path, [sent]);
    for (let tries = 0; path === "explain" && found.status === 429 && tries < MOST_TRIES; tries++) {
      await new Promise((go) => setTimeout(go, 1000 * found.wait));
      if (mine !== asked) return null;
      found = await call(path, [sent]);
    }
  } catch {
    found = { status: 0, content: { error: "The server can't be reached.", fields: [] } };
  }
  if (mine !== asked) return null;
  if (found.status === 200) return found.content;
  busy(false);
  at("why").hidden = true;
  if (path === "predict") at("label").hidden = true;
  refuse(found);
  return null;
}

function busy(on) {
  at("answer").setAttribute("aria-busy", String(on));
  at("predict").disabled = at("explain").disabled = on;
}

function tell(text) {
  at("problem").textContent = text;
  at("problem").hidden = !text;
  for (const fault of document.querySelectorAll(".fault")) fault.hidden = true;
  for (const input of document.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
}

function refuse(answer) {
  tell(answer.content.error);
  for (const { column, message } of answer.content.fields ?? []) {
    const number = about.columns.findIndex((known) => known.name === column);
    if (number < 0) continue;
    at(`fault-${number}`).textContent = message;
    at(`fault-${number}`).hidden = false;
    at(`field-${number}`).setAttribute("aria-invalid", "true");
  }
}

function label(answer) {
  if (answer.problem) {
    at("label").hidden = true;
    return tell(answer.problem);
  }
  const number = typeof answer.prediction === "number";
  at("said").textContent = number ? String(answer.prediction) : answer.prediction || "no label";
  at("sure").textContent = answer.confidence === null ? "" : percent(answer.confidence);
  const shares = Object.entries(answer.probabilities ?? {}).sort((a, b) => b[1] - a[1]);
  if (about.class_weights && shares[0][0] !== answer.prediction)
    at("sure").textContent += ", the largest once rare classes weigh more";
  const several = about.predicts === "labels";
  const said = several ? answer.prediction.split(about.separator) : [answer.prediction];
  const lines = shares.map(([name, share]) => {
    const chosen = said.includes(name);
    const line = made("li", "", chosen ? "chosen" : "");
    const track = made("span", "", "track");
    const bar = made("div", "", "bar");
    bar.style.width = `${100 * share}%`;
    track.append(bar);
    line.append(made("span", name, "name"), track, made("span", percent(share), "number"));
    return line;
  });
  at("bars").replaceChildren(...lines.slice(0, MOST_BARS));
  at("rest").replaceChildren(...lines.slice(MOST_BARS));
  at("others").textContent = `${lines.length - MOST_BARS} more`;
  at("more").hidden = lines.length <= MOST_BARS;
}

function why(answer, sent) {
  const to = { number: "the number", labels: "a label's log odds", label: "the margin over the other classes" };
  at("lead").textContent =
    `The stronger the shade, the more a word adds to ${to[about.predicts]}; dashed is what takes from it. ` +
    "Words that only count together share the credit." +
    (about.engine?.precision === "int8" ? " Explained is the run's own model, not its copy in int8 that labels." : "");
  at("reasons").replaceChildren(
    ...answer.explanations.flatMap((one) => reasons(one, sent, answer.explanations.length > 1)),
  );
}

function reasons(one, sent, several) {
  const unit = one.of === null ? "" : ", in percentage points";
  const texts = about.columns.filter((column) => column.role === "text" && sent[column.name]);
  const strongest = Math.max(1e-12, ...one.words.map((word) => Math.abs(word.value)));
  const found = several ? [made("h3", one.of)] : [];
  for (const { name } of texts) found.push(...marked(name, sent[name], one.words, strongest));
  const words = totals(one.words).slice(0, 8);
  found.push(
    table("Words that count most", ["Word", "Adds to the margin"], words.map(([word, sum]) => [word, signed(sum)])),
    table(
      `What an empty cell would take away${unit}`,
      ["Column", "Cell", "Adds"],
      one.columns.map(({ column, cell, effect }) => [column, cell, signed(one.of === null ? effect : 100 * effect)]),
    ),
  );
  if (one.members.length > 1) {
    const lines = one.members.map(({ member, weight, margin }) => [member, weight?.toFixed(2), signed(margin)]);
    found.push(table("Whose answer it is", ["Member", "Weight", "Adds to the margin"], lines));
  }
  return found;
}

// Words with what all their places add, the largest first.
function totals(words) {
  const sums = new Map();
  for (const { text, value } of words) {
    const kind = text.toLowerCase();
    sums.set(kind, (sums.get(kind) ?? 0) + value);
  }
  return [...sums].sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
}

function table(caption, heads, lines) {
  const box = made("div", "", "scroll");
  const whole = made("table");
  const head = made("tr");
  head.append(...heads.map((text, place) => Object.assign(made("th", text, place === heads.length - 1 ? "number" : ""), { scope: "col" })));
  const body = made("tbody");
  for (const cells of lines) {
    const line = made("tr");
    line.append(...cells.map((cell, place) => made("td", short(cell), place === cells.length - 1 ? "number" : "")));
    body.append(line);
  }
  const top = made("thead");
  top.append(head);
  whole.append(made("caption", caption), top, body);
  box.append(whole);
  box.tabIndex = 0;
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", caption);
  return lines.length ? box : "";
}

function short(cell) {
  const content = cell === null || cell === undefined ? "empty" : String(cell).replace(/\s+/gu, " ").trim();
  return content.length > 80 ? `${content.slice(0, 79)}…` : content;
}

function marked(name, text, words, strongest) {
  // Places are counted in characters, as Python counts them; JavaScript's own are halves of some.
  const signs = [...text];
  const box = made("p", "", "text");
  box.dir = "auto";
  const anyRead = words.some((word) => word.read);
  let done = 0;
  for (const { column, start, end, value, read } of words) {
    if (column !== name) continue;
    const kind = anyRead && !read ? "unread" : "";
    box.append(plain(signs.slice(done, start).join(""), kind));
    const word = signs.slice(start, end).join("");
    const share = value / strongest;
    if (Math.abs(share) < SLIGHT) {
      box.append(plain(word, kind));
    } else {
      const mark = made("mark", word, `${share < 0 ? "against" : "for"} ${kind}`);
      mark.style.setProperty("--a", Math.abs(share).toFixed(2));
      mark.title = signed(value);
      box.append(mark);
    }
    done = end;
  }
  box.append(signs.slice(done).join(""));
  return about.columns.length > 1 ? [made("p", name, "note"), box] : [box];
}

function plain(text, kind) {
  return kind && text.trim() ? made("span", text, kind) : text;
}

function percent(share) {
  return `${(100 * share).toFixed(1)}%`;
}

function signed(adds) {
  if (adds === null) return "not finite";
  const size = Math.abs(adds) >= 100 ? adds.toPrecision(4) : adds.toFixed(2);
  return adds < 0 ? size.replace("-", "\u2212") : `+${size}`;
}

at("entry").addEventListener("submit", (event) => {
  event.preventDefault();
  token = at("token").value.trim();
  open();
});
at("row").addEventListener("submit", (event) => {
  event.preventDefault();
  ask(false);
});
at("explain").addEventListener("click", () => {
  if (at("row").reportValidity()) ask(true);
});
at("row").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("row").requestSubmit();
});
open();
