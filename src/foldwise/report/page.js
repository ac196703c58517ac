"use strict";
// Charts take their colours from the page, so they are drawn again when light turns to dark.
function chartTheme() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  const ink = of("--ink"), soft = of("--soft"), line = of("--line");
  return {
    background: null,
    font: "system-ui, sans-serif",
    view: { stroke: null },
    title: { color: ink, anchor: "start" },
    text: { color: soft },
    rule: { color: soft },
    axis: {
      labelColor: soft, titleColor: soft, gridColor: line, domainColor: soft, tickColor: soft,
      labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", labelLimit: 260,
      labelFlush: false,
    },
    legend: { symbolOpacity: 1, labelColor: ink, titleColor: soft, orient: "top", labelFontSize: 12, labelLimit: 260, title: null },
  };
}

async function drawCharts() {
  const config = chartTheme();
  for (const figure of document.querySelectorAll("figure.chart")) {
    const spec = JSON.parse(figure.querySelector("script").textContent);
    try {
      await vegaEmbed(figure.querySelector(".canvas"), spec, { actions: false, renderer: "svg", config });
    } catch (error) {
      figure.querySelector(".canvas").textContent = "This chart can't be drawn: " + error.message;
      console.error(error);
    }
  }
  document.body.dataset.charts = "drawn";
}

function sortBy(header) {
  const table = header.closest("table"), body = table.tBodies[0];
  const column = [...header.parentNode.children].indexOf(header);
  // Numbers: the largest first, names from A.
  const first = header.classList.contains("number") ? "descending" : "ascending";
  const other = first === "ascending" ? "descending" : "ascending";
  const order = header.getAttribute("aria-sort") === first ? other : first;
  for (const each of header.parentNode.children) {
    if (each.hasAttribute("aria-sort")) each.setAttribute("aria-sort", "none");
  }
  header.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const key = (row) => {
    const cell = row.cells[column];
    if (!("value" in cell.dataset)) return cell.textContent;
    return cell.dataset.value === "" ? NaN : Number(cell.dataset.value);
  };
  const rows = [...body.rows].map((row) => [key(row), row]);
  rows.sort(([a], [b]) => {
    if (typeof a === "string" || typeof b === "string") return sign * String(a).localeCompare(String(b));
    if (isNaN(a) || isNaN(b)) return isNaN(a) - isNaN(b); // what isn't known comes last either way
    return sign * (a - b);
  });
  body.append(...rows.map(([, row]) => row));
}

for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => sortBy(button.closest("th")));
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawCharts);
drawCharts();
