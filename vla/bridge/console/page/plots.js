"use strict";
// Small charts over the last seconds: lines on a canvas, no library.

const SPAN = 12; // seconds
const GUTTER = 34; // CSS pixels, for the numbers of the value axis

class Plot {
  // lines: [{colour, label}]; least: the smallest height of the value axis.
  constructor(parent, title, unit, lines, least, digits) {
    Object.assign(this, { unit, lines, least, digits });
    this.points = []; // [t, value, …]; null where there is none
    const card = document.createElement("div");
    card.className = "plot";
    card.innerHTML = "<p><span></span><output></output></p><canvas></canvas>";
    card.querySelector("span").textContent = title;
    this.output = card.querySelector("output");
    this.canvas = card.querySelector("canvas");
    parent.append(card);
  }

  add(t, values) {
    const last = this.points[this.points.length - 1];
    if (last && t < last[0]) this.points = [];
    this.points.push([t, ...values]);
    while (this.points.length && this.points[0][0] < t - SPAN) this.points.shift();
    this.output.textContent = values
      .map((v) => (v === null ? "–" : v.toFixed(this.digits))).join(" · ") + (this.unit ? " " + this.unit : "");
  }

  range() {
    let low = Infinity, high = -Infinity;
    for (const point of this.points) {
      for (const v of point.slice(1)) if (v !== null) { low = Math.min(low, v); high = Math.max(high, v); }
    }
    if (low > high) return [0, this.least];
    const middle = (low + high) / 2, half = Math.max(high - low, this.least) / 2 * 1.1;
    return [middle - half, middle + half];
  }

  draw() {
    const ratio = window.devicePixelRatio || 1;
    const width = this.canvas.clientWidth, height = this.canvas.clientHeight;
    if (!width || !this.points.length) return;
    if (this.canvas.width !== Math.round(width * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
    }
    const pen = this.canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    const [low, high] = this.range();
    const end = this.points[this.points.length - 1][0];
    const x = (t) => GUTTER + (width - GUTTER) * (1 - (end - t) / SPAN);
    const y = (v) => 3 + (height - 6) * (1 - (v - low) / (high - low));
    this.rule(pen, width, low, high, y);
    this.lines.forEach((line, k) => {
      pen.strokeStyle = line.colour;
      pen.lineWidth = 1.75;
      pen.beginPath();
      let down = false;
      for (const point of this.points) {
        const v = point[k + 1];
        if (v === null) { down = false; continue; }
        if (down) pen.lineTo(x(point[0]), y(v)); else pen.moveTo(x(point[0]), y(v));
        down = true;
      }
      pen.stroke();
    });
  }

  rule(pen, width, low, high, y) {
    pen.strokeStyle = "#2e343c";
    pen.fillStyle = "#7d8791";
    pen.font = "10px system-ui, sans-serif";
    pen.lineWidth = 1;
    const places = Math.max(this.digits - 1, 0);
    for (const share of [0.12, 0.88]) {
      const v = low + share * (high - low);
      pen.beginPath();
      pen.moveTo(GUTTER, y(v));
      pen.lineTo(width, y(v));
      pen.stroke();
      pen.fillText(v.toFixed(places), 0, y(v) + 3);
    }
  }
}
