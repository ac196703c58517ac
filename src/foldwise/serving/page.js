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
const SLIGHT = 0.1; // of the part that counts most: less than that isn't underlined
let token = "";
let about = null;
let asked = 0;

async function call(path, rows) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const request = { headers, credentials: "omit" };
  if (rows) {
    request.method = "POST";
    headers["Content-Type"] = "application/json";
    request.body = JSON.stringify({ rows });
  }
  const response = await fetch(path, request);
  let content = null;
  try {
    content = await response.json();
  } catch {
    content = { error: `the server answered ${response.status}`, fields: [] };
  }
  return { status: response.status, content };
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

async function ask(path) {
  const mine = ++asked;
  const sent = row();
  busy(true);
  tell("");
  let found;
  try {
    found = await Promise.all(path === "explain" ? [call("predict", [sent]), call("explain", [sent])] : [call("predict", [sent])]);
  } catch {
    found = [{ status: 0, content: { error: "The server can't be reached.", fields: [] } }];
  }
  if (mine !== asked) return; // a later question has been asked
  busy(false);
  const bad = found.find((answer) => answer.status !== 200);
  at("label").hidden = Boolean(bad);
  at("why").hidden = Boolean(bad) || found.length < 2;
  if (bad) return refuse(bad);
  label(found[0].content.rows[0]);
  if (found.length === 2) why(found[1].content, sent);
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
  const name = answer.label === null ? "the number" : `“${answer.label}”`;
  const unit = answer.label === null ? "" : ", in percentage points";
  at("lead").textContent =
    `What ${name} loses when a word or a column is left out${unit}. ` +
    "Parts that say the same stand in for each other, and then neither counts much.";
  const parts = answer.parts.filter((part) => part.adds !== null);
  const most = Math.max(1e-12, ...parts.map((part) => Math.abs(part.adds)));
  const texts = about.columns.filter((column) => column.role === "text" && sent[column.name]);
  at("texts").replaceChildren(...texts.flatMap(({ name }) => marked(name, sent[name], parts, most)));
  const first = [...parts].sort((a, b) => Math.abs(b.adds) - Math.abs(a.adds)).slice(0, 12);
  at("parts").replaceChildren(
    ...first.map((part) => {
      const line = made("tr");
      const content = String(part.content).replace(/\s+/gu, " ").trim();
      const short = content.length > 80 ? `${content.slice(0, 79)}…` : content;
      line.append(made("td", part.column), made("td", short), made("td", signed(part.adds, answer), "number"));
      return line;
    }),
  );
}

function marked(name, text, parts, most) {
  // Places are counted in characters, as Python counts them; JavaScript's own are halves of some.
  const signs = [...text];
  const box = made("p", "", "text");
  let done = 0;
  for (const part of parts.filter((each) => each.column === name && each.start !== null)) {
    box.append(signs.slice(done, part.start).join(""));
    const against = part.adds < -SLIGHT * most;
    const mark = made("mark", signs.slice(part.start, part.end).join(""), against ? "against" : "");
    const tone = part.adds < 0 ? "--against" : "--for";
    mark.style.backgroundColor = `rgba(var(${tone}), ${(0.55 * Math.abs(part.adds)) / most})`;
    mark.title = part.adds.toPrecision(2);
    box.append(mark);
    done = part.end;
  }
  box.append(signs.slice(done).join(""));
  return about.columns.length > 1 ? [made("p", name, "note"), box] : [box];
}

function percent(share) {
  return `${(100 * share).toFixed(1)}%`;
}

function signed(adds, answer) {
  const size = answer.label === null ? adds.toPrecision(3) : (100 * adds).toFixed(1);
  return adds > 0 ? `+${size}` : size.replace("-", "\u2212");
}

at("entry").addEventListener("submit", (event) => {
  event.preventDefault();
  token = at("token").value.trim();
  open();
});
at("row").addEventListener("submit", (event) => {
  event.preventDefault();
  ask("predict");
});
at("explain").addEventListener("click", () => {
  if (at("row").reportValidity()) ask("explain");
});
at("row").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("row").requestSubmit();
});
open();
