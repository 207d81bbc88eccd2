# shellcheck shell=bash
# Shows commands as a person would type them, with what they gave, and compares that with what was expected.
# Sourced by `run`, after world.sh.

: "${root:?}" "${folder?}" "${prefix:?}"
steps=0
output=
status=0
took_ms=0

part() {
  printf '\n\n=== %s ===\n' "$*"
}

say() {
  printf '\n# %s\n' "$*"
}

# A command line as it would be typed: quotes only where a shell needs them.
typed() {
  local word line=
  for word in "$@"; do
    [[ $word =~ ^[][A-Za-z0-9_./:=,@%+*-]+$ && $word != *[*[]* ]] || word="'$word'"
    line+="${line:+ }$word"
  done
  printf '%s' "$line"
}

# run_in PLACE COMMAND...: sets output, status and took_ms. Places: pod, node.
run_in() {
  local place=$1 group=agent began=${EPOCHREALTIME/./}
  shift
  [[ $place == node ]] || group=pods/curl
  status=0
  output=$( (inside "$place" "$group" timeout 10 "$@") 2>&1 </dev/null | tr -d '\r') || status=$?
  took_ms=$(((${EPOCHREALTIME/./} - began) / 1000))
}

as_wanted() {
  [[ $status == "$1" && $output == *"$2"* ]]
}

try_in() {
  local want_status=$1 want_text=$2
  shift 2
  run_in "$@"
  as_wanted "$want_status" "$want_text"
}

# expect PLACE STATUS TEXT COMMAND...: the command ends with STATUS and its output contains TEXT. It is tried again for
# two seconds, since a change of policy needs some milliseconds; what the last try gave is shown.
expect() {
  local place=$1 want_status=$2 want_text=$3 held=yes
  shift 3
  steps=$((steps + 1))
  until_true 2 try_in "$want_status" "$want_text" "$place" "$@" || held=
  show_command "$place" "$@"
  [[ -z $output ]] || printf '%s\n' "$output"
  printf '[exit %d]\n' "$status"
  [[ -n $held ]] || fail "expected exit $want_status${want_text:+ and \"$want_text\"}, got exit $status"
}

# The prompt says where the command runs. What `bash -c` gets is what a person types.
show_command() {
  local place=$1 line
  shift
  line=$(typed "$@")
  [[ $1 != bash || $2 != -c ]] || line=$3
  printf '\n%s$ %s\n' "$place" "$line"
}

# ctl STATUS TEXT ARGUMENT...: egressctl of this demo's agent.
ctl() {
  local want_status=$1 want_text=$2
  shift 2
  expect node "$want_status" "$want_text" egressctl --run-dir "$folder/run" --bpffs "/sys/fs/bpf/$prefix" "$@"
}

# expect_within MILLISECONDS: the step before took no longer.
expect_within() {
  printf '(took %d ms)\n' "$took_ms"
  ((took_ms <= $1)) || fail "expected it within $1 ms, it took $took_ms ms"
}

# apply FILE [NAME]: puts a manifest into the agent's folder, under another name where it replaces one.
apply() {
  local source=$root/deploy/demo/manifests/$1 name=${2:-$1}
  printf '\nnode$ cp deploy/demo/manifests/%s %s/manifests/%s\n' "$1" "$folder" "${2:-}"
  sed 's/^/    /' "$source"
  cp "$source" "$folder/manifests/$name"
}

delete() {
  printf '\nnode$ rm %s/manifests/%s\n' "$folder" "$1"
  rm "$folder/manifests/$1"
}

fail() {
  {
    printf '\nFAILED at step %d: %s\n' "$steps" "$*"
    printf '\nThe end of the log of egressd:\n'
    tail -n 40 "$folder/agent.log" 2>/dev/null
  } >&2
  printf '\n%d passed, 1 failed\n' "$((steps - 1))"
  exit 1
}
