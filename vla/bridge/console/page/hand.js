"use strict";

// The hand that is dragged in the 3D view: taking it, the gripper, and episodes by hand.

let holding = null;

function offerHand(offered) {
  $("hand").hidden = !offered;
  giveBack();
}

function take() {
  if (holding) return giveBack();
  tell({ do: "hand", on: true });
  holding = setInterval(() => tell({ do: "hand", beat: true }), BEAT);
  $("take").classList.add("held");
  $("take").textContent = "Give the hand back";
  $("open").disabled = $("close").disabled = false;
}

function giveBack() {
  if (holding) {
    clearInterval(holding);
    tell({ do: "hand", on: false });
  }
  holding = null;
  $("take").classList.remove("held");
  $("take").textContent = "Take the hand";
  $("open").disabled = $("close").disabled = true;
}

$("take").addEventListener("click", take);
$("open").addEventListener("click", () => tell({ do: "hand", opening: 1 }));
$("close").addEventListener("click", () => tell({ do: "hand", opening: 0 }));
$("keep").addEventListener("click", () => tell({ do: "hand", ask: "go" }));
$("discard").addEventListener("click", () => tell({ do: "hand", ask: "discard" }));
