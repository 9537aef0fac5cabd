
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const { points, paths, rows } = data;
  const nPoints = points.cost.length, nPaths = paths.name.length, nRows = rows.n;
  const unit = data.unit ? ` ${data.unit}` : "";
  const PAGE = 15, CLASSES = 30, NO_ERROR = 65535;

  // ---------------------------------------------------------------- values

  function unpack(packed) {
    if (!packed) return null;
    const text = atob(packed.data), bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    // Little-endian, as every machine that runs a browser today.
    const kinds = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, f4: Float32Array };
    return new kinds[packed.type](bytes.buffer);
  }

  const number = unpack(rows.row), label = unpack(rows.label), weight = unpack(rows.weight);
  const start = unpack(rows.start), path = unpack(rows.path), right = unpack(rows.right);
  const error = unpack(rows.error), ownCost = unpack(rows.cost);
  const first = new Uint32Array(nRows + 1);
  unpack(rows.runs).forEach((n, r) => { first[r + 1] = first[r] + n; });
  const at = new Uint32Array(nRows); // run of each row at the point shown

  const short = (value) => String(Number(value.toPrecision(4)));
  const count = (n) => n.toLocaleString("en");
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  const costOf = (run) => (ownCost ? ownCost[run] : paths.cost[path[run]]);
  const errorOf = (run) => (error && error[run] !== NO_ERROR ? error[run] / rows.errors : null);
  const nameOf = (row) => (rows.name ? rows.name[row] : "");

  function make(kind, className, text) {
    const made = document.createElement(kind);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text; // never as HTML: names come from outside
    return made;
  }

  function paint(element, p) {
    const hue = `var(--c${paths.hue[p]})`;
    element.style.background = hue;
    element.style.background = `color-mix(in srgb, ${hue} ${paths.strength[p]}%, var(--bg))`;
    return element;
  }

  // ---------------------------------------------------------------- state

  const lowest = Math.min(...points.cost), highest = Math.max(...points.cost);
  const state = { point: data.chosen ?? 0, budget: 0, page: 0, everyClass: false, over: null };
  let speaking;

  function say(text) { // once the hand rests: a slider's every step would drown the reader
    clearTimeout(speaking);
    speaking = setTimeout(() => { $("live").textContent = text; }, 400);
  }

  function within(budget) { // the most accurate point that costs no more; of equals the cheapest
    let best = -1;
    const slack = 1e-6 * Math.abs(budget);
    for (let i = 0; i < nPoints; i++) {
      if (points.cost[i] > budget + slack) continue;
      const gain = best < 0 ? 1 : points.accuracy[i] - points.accuracy[best];
      if (gain > 0 || (gain === 0 && points.cost[i] < points.cost[best])) best = i;
    }
    return best < 0 ? points.cost.indexOf(lowest) : best;
  }

  function pick(point) {
    state.point = point;
    state.budget = points.cost[point];
    show();
  }

  function spend(budget) {
    state.budget = budget;
    state.point = within(budget);
    show();
  }

  // Even steps of cost, or even ratios where costs differ a hundredfold.
  const ratios = lowest > 0 && highest > 100 * lowest;

  function toSlider(budget) {
    if (!(highest > lowest)) return 0;
    const part = ratios ? Math.log(budget / lowest) / Math.log(highest / lowest)
      : (budget - lowest) / (highest - lowest);
    return Math.round(1000 * Math.min(1, Math.max(0, part)));
  }

  function fromSlider(place) {
    if (place <= 0) return lowest;
    if (place >= 1000) return highest;
    return ratios ? lowest * (highest / lowest) ** (place / 1000)
      : lowest + place / 1000 * (highest - lowest);
  }

  function mixed(budget) { // accuracy that mixing two points at random reaches at a mean cost
    const hull = data.hull;
    for (let k = 1; k < hull.length; k++) {
      const [c0, a0] = hull[k - 1], [c1, a1] = hull[k];
      if (budget >= c0 && budget <= c1) return a0 + (budget - c0) / (c1 - c0) * (a1 - a0);
    }
    return 0;
  }

  function describe() {
    const i = state.point;
    return `${data.knob} ${points.knob[i]} (point ${i + 1} of ${nPoints}): mean cost ` +
      `${short(points.cost[i])}${unit}, accuracy ${percent(points.accuracy[i])}.`;
  }

  // ---------------------------------------------------------------- drawing

  function show() {
    for (let r = 0; r < nRows; r++) {
      let run = first[r];
      while (run + 1 < first[r + 1] && start[run + 1] <= state.point) run++;
      at[r] = run;
    }
    const i = state.point;
    $("knob").value = i;
    $("knob-value").textContent = points.knob[i];
    $("knob").setAttribute("aria-valuetext", describe());
    $("budget").value = toSlider(state.budget);
    $("budget").setAttribute("aria-valuetext", `${short(state.budget)}${unit}. ${describe()}`);
    if (document.activeElement !== $("budget-number")) $("budget-number").value = short(state.budget);
    $("in-use").disabled = i === data.chosen;
    const spread = points.shares[i].length / 2;
    const reach = mixed(state.budget);
    const more = reach > points.accuracy[i] + 0.0005
      ? ` Two points mixed would reach ${percent(reach)} at ${short(state.budget)}${unit}.` : "";
    const text = `${describe()} Rows take ${spread} ${spread === 1 ? "path" : "paths"}.${more}`;
    $("summary").textContent = state.budget < lowest * (1 - 1e-6)
      ? `No point costs so little; the cheapest is shown. ${text}` : text;
    drawCurve();
    drawPaths();
    if (data.classes) drawClasses();
    drawRows();
    say($("summary").textContent);
  }

  function ticks(low, high, most) {
    const rough = (high - low) / most || 1, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
    const found = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push(k * step);
    return found;
  }

  const SVG = "http://www.w3.org/2000/svg";
  let scaleX, scaleY;

  function draw(kind, attributes, text) {
    const made = document.createElementNS(SVG, kind);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text !== undefined) made.textContent = text;
    $("curve").append(made);
    return made;
  }

  function drawCurve() {
    const svg = $("curve"), width = svg.clientWidth, height = svg.clientHeight;
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const every = [...points.cost, ...data.hull.map((h) => h[0]), ...data.models.map((m) => m[1])];
    const heights = [...points.accuracy, ...data.hull.map((h) => h[1]), ...data.models.map((m) => m[2])];
    const pad = (low, high) => {
      const room = (high - low || Math.abs(high) || 1) * 0.05;
      return [low - room, high + room];
    };
    const [x0, x1] = pad(Math.min(...every), Math.max(...every));
    const [y0, y1] = pad(Math.min(...heights), Math.max(...heights));
    const left = 58, rightEdge = width - 12, top = 12, bottom = height - 46;
    scaleX = (value) => left + (value - x0) / (x1 - x0) * (rightEdge - left);
    scaleY = (value) => bottom - (value - y0) / (y1 - y0) * (bottom - top);
    for (const tick of ticks(x0, x1, Math.max(2, (rightEdge - left) / 90))) {
      const x = scaleX(tick);
      draw("line", { class: "grid", x1: x, x2: x, y1: top, y2: bottom });
      draw("text", { class: "tick", x, y: bottom + 17, "text-anchor": "middle" }, short(tick));
    }
    for (const tick of ticks(y0, y1, 6)) {
      const y = scaleY(tick);
      draw("line", { class: "grid", x1: left, x2: rightEdge, y1: y, y2: y });
      draw("text", { class: "tick", x: left - 7, y: y + 4, "text-anchor": "end" }, `${short(100 * tick)} %`);
    }
    const title = data.unit ? `Mean cost (${data.unit})` : "Mean cost";
    draw("text", { x: (left + rightEdge) / 2, y: height - 8, "text-anchor": "middle" }, title);
    const line = data.hull.map(([c, a]) => `${scaleX(c)},${scaleY(a)}`).join(" ");
    draw("polyline", { class: "hull", points: line });
    for (let i = 0; i < nPoints; i++) {
      draw("circle", { class: "dot", cx: scaleX(points.cost[i]), cy: scaleY(points.accuracy[i]), r: 3 });
    }
    for (const [name, c, a] of data.models) {
      const x = scaleX(c), y = scaleY(a);
      draw("path", { class: "model", d: `M${x - 6} ${y}L${x} ${y - 6}L${x + 6} ${y}L${x} ${y + 6}Z` });
      if (data.models.length > 6) continue;
      const end = x > (left + rightEdge) / 2;
      const shown = name.length > 18 ? `${name.slice(0, 17)}\u2026` : name;
      draw("text", { x: x + (end ? -10 : 10), y: y + (y > bottom - 24 ? -9 : 20), "text-anchor": end ? "end" : "start" }, shown);
    }
    const i = state.point, x = scaleX(points.cost[i]), y = scaleY(points.accuracy[i]);
    const limit = scaleX(Math.min(x1, Math.max(x0, state.budget)));
    draw("line", { class: "budget", x1: limit, x2: limit, y1: top, y2: bottom });
    draw("line", { class: "guide", x1: left, x2: x, y1: y, y2: y });
    if (data.chosen !== null) {
      const u = data.chosen;
      const [ux, uy] = [scaleX(points.cost[u]), scaleY(points.accuracy[u])];
      draw("rect", { class: "used", x: ux - 6, y: uy - 6, width: 12, height: 12 });
    }
    draw("circle", { class: "now", id: "now", cx: x, cy: y, r: 9 });
    if (state.over) draw("circle", { class: "over", cx: scaleX(state.over.cost), cy: scaleY(state.over.accuracy), r: 6 });
  }

  function nearest(event) {
    const box = $("curve").getBoundingClientRect();
    const px = event.clientX - box.left, py = event.clientY - box.top;
    let best = null, least = 40 ** 2;
    const offer = (cost, accuracy, rest) => {
      const distance = (scaleX(cost) - px) ** 2 + (scaleY(accuracy) - py) ** 2;
      if (distance < least) { least = distance; best = { cost, accuracy, ...rest }; }
    };
    data.models.forEach(([name, c, a]) => offer(c, a, { title: `${name} for every row` }));
    for (let i = 0; i < nPoints; i++) {
      offer(points.cost[i], points.accuracy[i], { point: i, title: `${data.knob} ${points.knob[i]}` });
    }
    return best;
  }

  function hover(over) {
    state.over = over;
    drawCurve();
    const tip = $("tip");
    tip.hidden = !over;
    if (!over) return;
    tip.textContent = `${over.title}\nmean cost ${short(over.cost)}${unit}\naccuracy ${percent(over.accuracy)}`;
    const x = scaleX(over.cost), y = scaleY(over.accuracy);
    const room = $("plot").clientWidth - tip.offsetWidth;
    tip.style.left = `${Math.max(0, Math.min(room, x - tip.offsetWidth / 2))}px`;
    tip.style.top = `${y > tip.offsetHeight + 20 ? y - tip.offsetHeight - 14 : y + 14}px`;
  }

  function drawPaths() {
    const body = $("paths-body"), shares = points.shares[state.point], lines = [];
    for (let k = 0; k < shares.length; k += 2) {
      const p = shares[k], share = shares[k + 1], line = make("tr"), name = make("th", "path");
      name.scope = "row";
      name.append(paint(make("span", "swatch"), p), paths.name[p]);
      const bar = make("div", "bar"), part = paint(make("span"), p);
      part.style.width = `${100 * share}%`;
      bar.append(part);
      const cell = make("td", "wide");
      cell.append(bar);
      line.append(name, make("td", "number", short(paths.cost[p])), make("td", "number", percent(share)), cell);
      lines.push(line);
    }
    body.replaceChildren(...lines);
  }

  function byClass() {
    const n = data.classes.length, found = [];
    for (let c = 0; c < n; c++) found.push({ c, rows: 0, weight: 0, cost: 0, right: 0, shares: new Map() });
    for (let r = 0; r < nRows; r++) {
      const w = weight ? weight[r] : 1, mine = found[label[r]], run = at[r], p = path[run];
      mine.rows += 1;
      mine.weight += w;
      mine.cost += w * costOf(run);
      mine.right += w * right[run] / rows.grades;
      mine.shares.set(p, (mine.shares.get(p) || 0) + w);
    }
    return found.filter((one) => one.weight > 0);
  }

  function drawClasses() {
    const found = byClass(), order = $("class-order").value;
    const keys = {
      cost: (a, b) => b.cost / b.weight - a.cost / a.weight,
      cheap: (a, b) => a.cost / a.weight - b.cost / b.weight,
      wrong: (a, b) => a.right / a.weight - b.right / b.weight,
      rows: (a, b) => b.rows - a.rows,
      name: () => 0,
    };
    found.sort((a, b) => keys[order](a, b) || a.c - b.c);
    const shown = state.everyClass ? found : found.slice(0, CLASSES);
    $("classes-body").replaceChildren(...shown.map((one) => {
      const line = make("tr"), name = make("th", "name", data.classes[one.c]), cell = make("td", "wide");
      name.scope = "row";
      const bar = make("div", "bar"), told = [];
      for (const [p, mass] of [...one.shares].sort((a, b) => a[0] - b[0])) {
        const share = mass / one.weight, part = paint(make("span"), p);
        part.style.width = `${100 * share}%`;
        part.title = `${paths.name[p]}: ${percent(share)}`;
        told.push(part.title);
        bar.append(part);
      }
      bar.setAttribute("aria-hidden", "true");
      cell.append(bar, make("span", "hidden", told.join(", ")));
      line.append(name, make("td", "number", count(one.rows)), cell,
        make("td", "number", short(one.cost / one.weight)), make("td", "number", percent(one.right / one.weight)));
      return line;
    }));
    $("all-classes").hidden = found.length <= CLASSES;
    $("all-classes").textContent = state.everyClass
      ? `Show ${CLASSES} classes only` : `Show all ${count(found.length)} classes`;
  }

  function drawRows() {
    const ofClass = $("of-class").value, ofPath = $("of-path").value, ofAnswer = $("of-answer").value;
    const found = [];
    for (let r = 0; r < nRows; r++) {
      const run = at[r];
      if (ofClass !== "" && label[r] !== Number(ofClass)) continue;
      if (ofPath !== "" && path[run] !== Number(ofPath)) continue;
      if (ofAnswer !== "" && (right[run] === rows.grades) !== (ofAnswer === "right")) continue;
      found.push(r);
    }
    const errors = (r, none) => errorOf(at[r]) ?? none;
    const keys = {
      error: (a, b) => errors(b, -1) - errors(a, -1),
      sure: (a, b) => errors(a, 2) - errors(b, 2),
      cost: (a, b) => costOf(at[b]) - costOf(at[a]),
    };
    const key = keys[$("row-order").value];
    if (key) found.sort((a, b) => key(a, b) || a - b);
    const last = Math.max(0, Math.ceil(found.length / PAGE) - 1);
    state.page = Math.min(state.page, last);
    const from = state.page * PAGE, shown = found.slice(from, from + PAGE);
    $("rows-body").replaceChildren(...shown.map((r) => {
      const run = at[r], line = make("tr"), head = make("th", "", count(number[r]));
      head.scope = "row";
      line.append(head);
      if (rows.name) line.append(make("td", "name", nameOf(r)));
      if (data.classes) line.append(make("td", "name", data.classes[label[r]]));
      const taken = make("td", "path");
      taken.append(paint(make("span", "swatch"), path[run]), paths.name[path[run]]);
      line.append(taken, make("td", "number", short(costOf(run))));
      if (error) {
        const judged = errorOf(run);
        line.append(make("td", "number", judged === null ? "none" : judged.toFixed(3)));
      }
      const grade = right[run] / rows.grades;
      const words = grade === 1 ? "right" : grade === 0 ? "wrong" : `${percent(grade)} right`;
      line.append(make("td", grade === 0 ? "wrong" : "", words));
      return line;
    }));
    const text = found.length
      ? `Rows ${count(from + 1)} to ${count(from + shown.length)} of ${count(found.length)}.` : "No such rows.";
    $("rows-count").textContent = text;
    $("previous").disabled = state.page === 0;
    $("next").disabled = state.page >= last;
    return text;
  }

  // ---------------------------------------------------------------- set up

  $("knob").max = nPoints - 1;
  $("knob-label").textContent = data.knob === "lambda_"
    ? "lambda_: error that a unit of cost is worth" : data.knob;
  $("budget-label").textContent = `Budget: mean cost${data.unit ? ` (${data.unit})` : ""}`;
  const named = (head) => head.append(make("span", "unit", data.unit ? ` (${data.unit})` : ""));
  named($("path-cost-head"));
  named($("class-cost-head"));
  $("in-use").hidden = data.chosen === null;
  $("classes-section").hidden = !data.classes;
  $("class-filter").hidden = !data.classes;
  $("curve-text").textContent = "Dots are operating points; a click takes one. The line is what mixing " +
    "two of them at random reaches. The circle is the point shown, the dashed line the budget" +
    (data.chosen === null ? "" : ", the square the point in use") +
    (data.models.length ? ". Diamonds: one model or path for every row." : ".");
  for (const [id, names] of [["of-class", data.classes || []], ["of-path", paths.name]]) {
    names.forEach((name, i) => {
      const option = make("option", "", name);
      option.value = i;
      $(id).append(option);
    });
  }
  if (!error) for (const option of [...$("row-order").options]) {
    if (option.value === "error" || option.value === "sure") option.remove();
  }
  const heads = [["Row", 0], rows.name && ["Name", 0], data.classes && ["Label", 0], ["Path", 0], ["Cost", 1],
    error && ["Predicted error", 1], ["Answer", 0]];
  for (const [text, numeric] of heads.filter(Boolean)) {
    const head = make("th", numeric ? "number" : "", text);
    head.scope = "col";
    if (text === "Cost") named(head);
    $("rows-head").append(head);
  }

  $("knob").addEventListener("input", () => pick(Number($("knob").value)));
  $("budget").addEventListener("input", () => spend(fromSlider(Number($("budget").value))));
  $("budget-number").addEventListener("input", () => {
    const wanted = $("budget-number").valueAsNumber;
    if (Number.isFinite(wanted)) spend(wanted);
  });
  $("budget-number").addEventListener("blur", () => { $("budget-number").value = short(state.budget); });
  $("in-use").addEventListener("click", () => { pick(data.chosen); $("knob").focus(); });
  $("class-order").addEventListener("change", drawClasses);
  $("all-classes").addEventListener("click", () => { state.everyClass = !state.everyClass; drawClasses(); });
  for (const id of ["of-class", "of-path", "of-answer", "row-order"]) {
    $(id).addEventListener("change", () => { state.page = 0; say(drawRows()); });
  }
  for (const [id, step] of [["previous", -1], ["next", 1]]) {
    $(id).addEventListener("click", () => {
      state.page += step;
      say(drawRows());
      // A button that is disabled while it has the focus would lose the reader's place.
      if ($(id).disabled) $(id === "next" ? "previous" : "next").focus();
    });
  }
  $("curve").addEventListener("pointermove", (event) => hover(nearest(event)));
  $("curve").addEventListener("pointerleave", () => hover(null));
  $("curve").addEventListener("click", (event) => {
    const found = nearest(event);
    if (found && found.point !== undefined) pick(found.point);
    hover(found);
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hover(null); });
  new ResizeObserver(() => drawCurve()).observe($("plot"));
  state.budget = points.cost[state.point];
  show();
  clearTimeout(speaking); // nothing to announce before anything was done
  document.documentElement.dataset.ready = "true";
})();
