#!/usr/bin/env bash
# The main job: demonstrations → policy → evaluation → robot → one page. `bash scripts/demo.sh quick=1` is a smoke test.
set -euo pipefail
began=$SECONDS
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
install_compiler

env=tabletop/demo       # reach, push and pick
out=runs/demo           # everything lands here
workers=$(nproc)        # parallel processes for collection and evaluation
episodes=1200           # demonstrations
noise=0.15              # disturbance while demonstrating, as a share of the action range
policy=regression
steps=4400              # training steps
trials=120              # evaluation episodes of each row
seconds=30              # on the simulated robot
quick=0

for argument in "$@"; do
  case $argument in
    env=* | out=* | workers=* | episodes=* | noise=* | policy=* | steps=* | trials=* | seconds=* | quick=*)
      declare "$argument" ;;
    *) die "Unknown argument: $argument" \
      "  exists:   env out workers episodes noise policy steps trials seconds quick" "  run:      bash scripts/demo.sh quick=1" ;;
  esac
done
if [ "$quick" = 1 ]; then
  out=$out-quick policy=regression_tiny episodes=6 steps=20 trials=3 seconds=3
fi

say "1/5 Collect: a scripted expert shows reach, push and pick ($episodes episodes)"
wayhand collect env="$env" episodes="$episodes" noise="$noise" workers="$workers" out="$out/data"

say "2/5 Train: images and words to chunks of actions ($steps steps)"
wayhand train policy="$policy" data="$out/data" out="$out/policy" steps="$steps"

say "3/5 Evaluate: seen and unseen words, swapped words, no words"
wayhand eval checkpoint="$out/policy" env="$env" episodes="$trials" workers="$workers" out="$out/eval" \
  'splits=[seen,unseen_phrasing]' 'ablations=[grounding,no_language]'

say "4/5 Deploy: the policy drives a simulated robot in real time ($seconds s)"
wayhand deploy robot=simulated env="$env" checkpoint="$out/policy" seconds="$seconds" out="$out/deploy"

say "5/5 Report"
wayhand report out="$out"

printf '\nDone in %d min %02d s.\n' $(((SECONDS - began) / 60)) $(((SECONDS - began) % 60))
