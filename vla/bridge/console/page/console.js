"use strict";

const $ = (id) => document.getElementById(id);
const BEAT = 100; // ms between two signs of a held enable button
const STALE = 1500; // ms without news after which there is no connection
let socket = null, heard = 0, last = null, beating = null, stopping = false;
let joints = [], late = null, age = null, pictures = [], editing = false;

function tell(what) {
  if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(what));
}

function connect() {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/panel`);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => { if (stopping) tell({ do: "estop" }); };
  socket.onmessage = (event) => {
    heard = performance.now();
    if (event.data instanceof ArrayBuffer) return picture(event.data);
    const news = JSON.parse(event.data);
    if (news.hello) begin(news.hello);
    else if (news.refused) told(news.refused, true);
    else if (last === null || news.t !== undefined) show(news);
  };
  socket.onclose = () => { letGo(); giveBack(); setTimeout(connect, 500); };
}

// --- what the robot does ---------------------------------------------------------------------------------------

function begin(hello) {
  $("robot").textContent = hello.robot + (hello.shadow ? " · shadow: the robot is not moved" : "");
  if (hello.view) {
    if (!$("view").src) $("view").src = hello.view;
    $("view").hidden = false;
  }
  $("noview").hidden = Boolean(hello.view);
  const css = getComputedStyle(document.documentElement);
  const command = { colour: css.getPropertyValue("--command") }, measured = { colour: css.getPropertyValue("--measured") };
  $("joints").replaceChildren();
  joints = hello.joints.map((j) => new Plot($("joints"), j.name, j.unit, [command, measured], j.least, 3));
  late = new Plot($("joints"), "wake-up, worst · median", "µs", [command, measured], 100, 0);
  age = new Plot($("joints"), "action age", "ms", [measured], 50, 0);
  $("cameras").replaceChildren();
  pictures = hello.cameras.map((camera) => {
    const figure = document.createElement("figure");
    figure.innerHTML = "<img alt=''><figcaption><span></span><span></span></figcaption>";
    figure.style.setProperty("--aspect", `${camera.width} / ${camera.height}`);
    const [name, when] = figure.querySelectorAll("span");
    name.textContent = camera.name;
    const image = figure.querySelector("img");
    image.alt = `camera ${camera.name}`;
    $("cameras").append(figure);
    return { image, when };
  });
  last = null;
  offerHand(Boolean(hello.hand));
}

function picture(data) {
  const camera = pictures[new Uint8Array(data, 0, 1)[0]];
  if (!camera) return;
  const url = URL.createObjectURL(new Blob([new Uint8Array(data, 1)], { type: "image/jpeg" }));
  const old = camera.image.src;
  camera.image.onload = () => { if (old.startsWith("blob:")) URL.revokeObjectURL(old); };
  camera.image.src = url;
}

const SAY = { estop: "Emergency stop", fault: "Stopped", driving: "Driving", waiting: "Waiting for Start" };

function show(news) {
  last = news;
  if (news.estop) stopping = false;
  const state = news.state;
  document.body.dataset.state = state;
  $("state").textContent = SAY[state] + (news.moving && state !== "driving" ? ", coming to rest" : "");
  $("reason").textContent = news.reason;
  $("start").hidden = news.required;
  $("enable").hidden = !news.required;
  $("start").disabled = $("enable").disabled = state === "estop" || state === "fault";
  $("start").disabled ||= state === "driving";
  $("hold").disabled = state !== "driving";
  $("reset").disabled = !(state === "estop" || state === "fault");
  $("require").checked = news.required;
  $("estop").textContent = state === "estop" ? "Stopped" : "Stop";
  if (!editing) $("instruction").value = news.instruction;
  news.cameras.forEach((seconds, k) => {
    if (pictures[k]) pictures[k].when.textContent = seconds === null ? "" : `${Math.round(seconds * 1000)} ms old`;
  });
  if (news.command) joints.forEach((plot, k) => plot.add(news.t, [news.command[k], news.measured[k]]));
  if (news.late) late.add(news.t, news.late);
  age.add(news.t, [news.age]);
  numbers(news.loop);
}

function numbers(loop) {
  $("numbers").replaceChildren(...Object.entries(loop).map(([name, value]) => {
    const pair = document.createElement("div");
    pair.append(document.createElement("dt"), document.createElement("dd"));
    pair.firstChild.textContent = name;
    pair.lastChild.textContent = value;
    return pair;
  }));
}

function draw() {
  for (const plot of [...joints, late, age]) if (plot) plot.draw();
}

function lost() {
  if (performance.now() - heard < STALE) return;
  if (document.body.dataset.state !== "lost") letGo();
  document.body.dataset.state = "lost";
  $("state").textContent = "No connection";
  $("reason").textContent = "";
}

// --- what the operator does ------------------------------------------------------------------------------------

function estop() {
  stopping = true; // until the robot's side says that it is pressed, also over a new connection
  tell({ do: "estop" });
}

function grip(event) {
  if ($("enable").disabled || beating) return;
  event.preventDefault();
  if (event.pointerId !== undefined) $("enable").setPointerCapture(event.pointerId);
  $("enable").classList.add("held");
  tell({ do: "enable" });
  beating = setInterval(() => tell({ do: "beat" }), BEAT);
}

function letGo() {
  if (!beating) return;
  clearInterval(beating);
  beating = null;
  $("enable").classList.remove("held");
  tell({ do: "release" });
}

function told(text, wrong) {
  $("told").textContent = text;
  $("told").classList.toggle("error", wrong);
}

$("estop").addEventListener("pointerdown", estop);
// A key or an aid for the disabled clicks without a pointer, and then `detail` is 0. The click that ends a press is no
// second one: it would press the button again behind a reset.
$("estop").addEventListener("click", (event) => { if (event.detail === 0) estop(); });
document.addEventListener("keydown", (event) => { if (event.key === "Escape") estop(); });
for (const name of ["start", "hold", "reset"]) $(name).addEventListener("click", () => tell({ do: name }));
$("require").addEventListener("change", () => { letGo(); tell({ do: "require", on: $("require").checked }); });
$("enable").addEventListener("pointerdown", grip);
for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) $("enable").addEventListener(end, letGo);
$("enable").addEventListener("contextmenu", (event) => event.preventDefault());
$("enable").addEventListener("keydown", (event) => { if (event.key === " " && !event.repeat) grip(event); });
$("enable").addEventListener("keyup", (event) => { if (event.key === " ") letGo(); });
window.addEventListener("blur", letGo);
document.addEventListener("visibilitychange", () => { if (document.hidden) letGo(); });
$("instruction").addEventListener("focus", () => {
  editing = true;
  setTimeout(() => $("instruction").select());
});
$("instruction").addEventListener("blur", () => { editing = false; });
$("task").addEventListener("submit", (event) => {
  event.preventDefault();
  told("", false);
  tell({ do: "instruction", text: $("instruction").value });
  $("instruction").blur();
});

setInterval(() => { if (stopping) estop(); }, 200);
setInterval(lost, 200);
setInterval(draw, 100);
connect();
