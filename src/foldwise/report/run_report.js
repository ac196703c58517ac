"use strict";
// Rows are listed from data, so that ten thousand of them cost nothing until they are asked for.
function listRows(list, rows) {
  list.replaceChildren(...rows.map((row) => {
    const item = document.createElement("li");
    const meta = document.createElement("div");
    meta.className = "meta";
    meta.textContent = `row ${row.row} · target ${row.target} · predicted ${row.prediction}`
      + (row.confidence === null ? "" : ` (${row.confidence.toFixed(3)})`)
      + (row.note ? ` · ${row.note}` : "");
    const text = document.createElement("div");
    text.textContent = row.text;
    const columns = document.createElement("div");
    columns.className = "columns";
    columns.textContent = row.columns;
    item.append(meta, text, ...(row.columns ? [columns] : []));
    return item;
  }));
}

const matrix = document.querySelector(".matrix");
if (matrix) {
  const buttons = [...matrix.querySelectorAll("button")];
  const status = document.getElementById("cell-status"), list = document.getElementById("cell-rows");
  const classes = foldwiseData.classes;
  for (const button of buttons) {
    button.addEventListener("click", () => {
      for (const each of buttons) each.setAttribute("aria-pressed", String(each === button));
      const target = Number(button.dataset.target), predicted = Number(button.dataset.predicted);
      const both = { target: classes[target], prediction: classes[predicted] };
      const rows = (foldwiseData.cells[`${target},${predicted}`] || []).map((row) => ({ ...row, ...both }));
      const all = Number(button.dataset.rows);
      status.textContent = `${all} rows of ${classes[target]} predicted as ${classes[predicted]}`
        + (rows.length < all ? `; ${rows.length} of them shown, the most confident ones` : "");
      listRows(list, rows);
    });
  }
  const choices = [...document.querySelectorAll("[data-matrix]")];
  for (const choice of choices) {
    choice.addEventListener("click", () => {
      for (const each of choices) each.setAttribute("aria-pressed", String(each === choice));
      for (const button of buttons) {
        button.textContent = choice.dataset.matrix === "counts" ? button.dataset.rows : button.dataset.share;
      }
    });
  }
}

for (const list of document.querySelectorAll("ol[data-rows]")) {
  listRows(list, foldwiseData[list.dataset.rows]);
}

const slider = document.getElementById("threshold-slider");
if (slider) {
  const show = () => {
    const [threshold, coverage, accuracy] = foldwiseData.coverage[Number(slider.value)];
    const percent = (value) => (value === null ? "none" : (100 * value).toFixed(1) + "%");
    document.getElementById("threshold-told").textContent =
      `Confidence of at least ${threshold.toFixed(2)}: ${percent(coverage)} of the rows are kept, `
      + `accuracy on them ${percent(accuracy)}`;
    slider.setAttribute("aria-valuetext", threshold.toFixed(2));
  };
  slider.addEventListener("input", show);
  show();
}
