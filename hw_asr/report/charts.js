// Pictures: bars with intervals, the reliability diagram, curves over training steps.

const NUM_COLOURS = 6;

function barTable(groups, name) {
  const top = Math.max(...groups.map((group) => (group.interval ? group.interval[1] : group.wer)), 1e-9);
  const rows = groups.map((group) => {
    const bar = element("span", { class: "bar" }, element("i", { style: `width:${(100 * group.wer) / top}%` }));
    if (group.interval) {
      const [low, high] = group.interval.map((value) => (100 * value) / top);
      bar.append(element("b", { style: `left:${low}%;width:${high - low}%` }));
    }
    return [element("td", { dir: "auto" }, group.label), number(group.utterances), element("td", { title: `${number(group.words)} words` }, percent(group.wer, 1)), bar];
  });
  return element("div", { class: "tall scroll" }, table([name, "utterances", "WER", "with 95 % interval"], rows, { class: "bars" }));
}

function ticks(low, high, wanted) {
  if (!(high - low > 1e-9 * Math.max(1, Math.abs(low), Math.abs(high)))) return [low];
  const rough = (high - low || 1) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((factor) => factor * power >= rough) ?? 10);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) found.push(Number(value.toPrecision(12)));
  return found;
}

// Axes of a plot of the given ranges; returns the picture and the maps from values to its coordinates.
function plot(title, xRange, yRange, { width = 460, height = 250, showX = number, showY = number, logarithmic = false } = {}) {
  const left = 52, right = 22, top = 10, bottom = 26;
  const warp = logarithmic ? Math.log10 : (value) => value;
  const [low, high] = yRange.map(warp);
  const x = (value) => left + ((value - xRange[0]) / (xRange[1] - xRange[0] || 1)) * (width - left - right);
  const y = (value) => height - bottom - ((warp(value) - low) / (high - low || 1)) * (height - top - bottom);
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title });
  const yTicks = logarithmic ? ticks(low, high, 4).map((power) => 10 ** power) : ticks(low, high, 5);
  for (const value of yTicks) {
    svg.append(shape("line", { class: "axis", x1: left, x2: width - right, y1: y(value), y2: y(value) }));
    svg.append(shape("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, showY(value)));
  }
  for (const value of ticks(...xRange, 5)) svg.append(shape("text", { x: x(value), y: height - 8, "text-anchor": "middle" }, showX(value)));
  return { svg, x, y, left, right: width - right, top, bottom: height - bottom };
}

function reliability(title, calibration) {
  const show = (value) => `${Math.round(100 * value)} %`;
  const { svg, x, y } = plot(title, [0, 1], [0, 1], { showX: show, showY: show });
  svg.append(shape("line", { class: "diagonal", x1: x(0), y1: y(0), x2: x(1), y2: y(1) }));
  const most = Math.max(...calibration.bins.map((bin) => bin.count));
  for (const bin of calibration.bins) {
    const dot = shape("circle", { class: "dot", cx: x(bin.confidence), cy: y(bin.right), r: 3 + 9 * Math.sqrt(bin.count / most) });
    dot.append(shape("title", {}, `${number(bin.count)} words of confidence ${percent(bin.confidence, 0)}: ${percent(bin.right, 1)} right`));
    svg.append(dot);
  }
  return svg;
}

function curves(chart, logarithmic) {
  const values = chart.series.flatMap((line) => line.points.map((point) => point[1])).filter((value) => value !== null && (!logarithmic || value > 0));
  const steps = chart.series.flatMap((line) => line.points.map((point) => point[0]));
  const panel = element("div", { class: "panel chart" }, element("h3", {}, chart.title));
  if (!values.length) return panel;
  const smallest = values.reduce((a, b) => Math.min(a, b)), largest = values.reduce((a, b) => Math.max(a, b));
  const low = logarithmic ? smallest : Math.min(0, smallest);
  const xRange = [steps.reduce((a, b) => Math.min(a, b)), steps.reduce((a, b) => Math.max(a, b))];
  const rate = /ER\b/.test(chart.title);
  const show = rate ? (value) => percent(value, 1) : number;
  const area = plot(chart.title, xRange, [low, largest > low ? largest : low + 1], { showY: rate ? (value) => percent(value, 0) : number, logarithmic });
  chart.series.forEach((line, index) => {
    let path = "", pen = "M";
    for (const [step, value] of line.points) {
      const drawn = value !== null && (!logarithmic || value > 0);
      if (drawn) path += `${pen}${area.x(step).toFixed(1)} ${area.y(value).toFixed(1)}`;
      pen = drawn ? "L" : "M";
    }
    const dashes = index < NUM_COLOURS ? "" : ";stroke-dasharray:5 4"; // so that no two lines look the same
    const style = `fill:none;stroke-width:1.6;stroke-linejoin:round;stroke-linecap:round;stroke:var(--s${index % NUM_COLOURS})${dashes}`;
    area.svg.append(shape("path", { d: path, style }));
    if (path.indexOf("L") < 0 && path) { // a path of single points draws nothing
      for (const place of path.slice(1).split("M")) {
        const [cx, cy] = place.split(" ");
        area.svg.append(shape("circle", { cx, cy, r: 3, style: `fill:var(--s${index % NUM_COLOURS})` }));
      }
    }
  });
  panel.append(area.svg, readings(chart, area, xRange, show));
  return panel;
}

// The legend; it shows the values under the pointer, the last ones without it.
function readings(chart, area, xRange, show) {
  const outputs = chart.series.map(() => element("span", {}));
  const place = element("span", { class: "muted" });
  const cursor = shape("line", { class: "cursor", y1: area.top, y2: area.bottom, visibility: "hidden" });
  area.svg.append(cursor);
  const read = (step) => {
    place.textContent = `step ${number(Math.round(step))}`;
    chart.series.forEach((line, index) => {
      const nearest = line.points.reduce((best, point) => (Math.abs(point[0] - step) < Math.abs(best[0] - step) ? point : best));
      outputs[index].textContent = ` ${show(nearest[1])}`;
    });
  };
  area.svg.addEventListener("pointermove", (event) => {
    const box = area.svg.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * area.svg.viewBox.baseVal.width;
    const inside = Math.min(Math.max(at, area.left), area.right);
    for (const side of ["x1", "x2"]) cursor.setAttribute(side, inside);
    cursor.setAttribute("visibility", "visible");
    read(xRange[0] + ((inside - area.left) / (area.right - area.left)) * (xRange[1] - xRange[0]));
  });
  area.svg.addEventListener("pointerleave", () => { cursor.setAttribute("visibility", "hidden"); read(xRange[1]); });
  read(xRange[1]);
  const entries = chart.series.map((line, index) =>
    element("span", {}, element("i", { style: `border-top:3px ${index < NUM_COLOURS ? "solid" : "dashed"} var(--s${index % NUM_COLOURS})` }), line.label, outputs[index]));
  return element("div", { class: "legend" }, ...entries, place);
}
