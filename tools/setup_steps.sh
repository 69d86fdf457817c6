# shellcheck shell=bash
# Steps that a person can watch: sourced by tools/check and tools/quickstart.
#
#   steps_begin DIRECTORY TOTAL     logs go to DIRECTORY, TOTAL steps will come
#   step SLUG TITLE LIMIT COMMAND...   runs COMMAND (a program or a function) with its output in DIRECTORY/SLUG.log
#
# While a step runs, a terminal shows its time and the last line of its log; a log file gets a line every half minute. A
# step that fails, or is still running after LIMIT seconds, shows the end of its log. `step` returns the command's status;
# step_log names the log. A command runs in a process group of its own, so that an interrupt ends all of it: it gets
# SIGTERM, and SIGKILL if that did not help; what it leaves running is ended as well and fails the step. A line "step: TEXT" that it prints last is shown as its result.

step_number=0 step_total=0 step_directory=. step_log='' step_group=''

steps_begin() {
  step_directory=$1 step_total=$2 step_number=0
  mkdir -p "$step_directory"
  trap 'step_interrupted INT' INT
  trap 'step_interrupted TERM' TERM
}

step_interrupted() {
  trap - INT TERM
  [[ -z $step_group ]] || step_stop "$step_group"
  printf '\ninterrupted\n' >&2
  [[ $1 == INT ]] && exit 130
  exit 143
}

# Ends a group of processes, first politely.
step_stop() {
  local group=$1 turn
  kill -TERM -- "-$group" 2>/dev/null || return 0
  for ((turn = 0; turn < 100; turn++)); do
    step_alive "$group" || return 0
    sleep 0.1
  done
  kill -KILL -- "-$group" 2>/dev/null || return 0
}

# Whether a group has living processes, by /proc (which is there before any package is).
step_alive() {
  cat /proc/[0-9]*/stat 2>/dev/null |
    awk -v group="$1" '{ sub(/.*\) /, "") } $3 == group && $1 != "Z" { found = 1 } END { exit !found }'
}

# Whether a group lives on although its first process has ended; what is just dying gets a moment.
step_lingers() {
  local turn
  for ((turn = 0; turn < 20; turn++)); do
    step_alive "$1" || return 1
    sleep 0.1
  done
}

step_clock() { printf '%d:%02d' $(($1 / 60)) $(($1 % 60)); }

step_head() { printf '[%*d/%d] %-34s' "${#step_total}" "$step_number" "$step_total" "$1"; }

# One line for a terminal: cut to its width, without control characters.
step_last_line() {
  tail -n 1 "$step_log" 2>/dev/null | tr '\r\t' '  ' | tr -cd '[:print:]' | cut -c1-"$1"
}

# Says the result of a step that did not have to run.
step_known() {
  local title=$1 result=$2
  step_number=$((step_number + 1))
  printf '%s %6s  %s\n' "$(step_head "$title")" "" "$result"
}

# What failed in a log, wherever in it: tests of the whole system, Catch2's cases, unittest's, sanitizers' words.
step_failures() {
  local found
  found=$({ grep -E -A 3 '^FAILED|Sanitizer: ' "$1"; grep -E -B 8 -A 8 ': FAILED:$|^(FAIL|ERROR): |^.* ended with status ' "$1"; } |
    head -n 80 | cut -c -400)
  [[ -n $found ]] || return 0
  printf '        what failed in %s:\n' "$1"
  sed 's/^/        | /' <<<"$found"
}

step() {
  local slug=$1 title=$2 limit=$3 begun=$SECONDS spent=0 told=0 status=0 late=no columns=0 result
  shift 3
  step_number=$((step_number + 1)) step_log=$step_directory/$slug.log
  [[ ! -t 1 ]] || columns=$(tput cols 2>/dev/null || echo 80)
  : >"$step_log"
  set -m
  ("$@") </dev/null >"$step_log" 2>&1 9>&- &
  step_group=$!
  set +m
  while kill -0 "$step_group" 2>/dev/null; do
    spent=$((SECONDS - begun))
    if ((spent >= limit)); then
      late=yes
      step_stop "$step_group"
      break
    fi
    if ((columns > 60)); then
      printf '\r\033[K%s %6s  %s' "$(step_head "$title")" "$(step_clock $spent)" "$(step_last_line $((columns - 54)))"
    elif ((spent - told >= 30)); then
      told=$spent
      printf '%s %6s  %s\n' "$(step_head "$title")" "$(step_clock $spent)" "... $(step_last_line 100)"
    fi
    sleep 0.2
  done
  wait "$step_group" 2>/dev/null || status=$?
  if step_lingers "$step_group"; then
    echo "processes were left running:" >>"$step_log"
    ps -o pid,pgid,stat,args -e | awk -v group="$step_group" '$2 == group' >>"$step_log"
    step_stop "$step_group"
    [[ $status != 0 ]] || status=1
  fi
  step_group=
  spent=$((SECONDS - begun))
  ((columns <= 60)) || printf '\r\033[K'
  if [[ $late == yes ]]; then
    status=124
    result="FAILED: still running after $(step_clock "$limit") minutes"
  elif [[ $status != 0 ]]; then
    result="FAILED (status $status)"
  else
    result=$(tail -n 1 "$step_log" | sed -n 's/^step: //p')
    [[ -n $result ]] || result=$(tail -n 5 "$step_log" | grep -oE '[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?' | tail -n 1)
    [[ -n $result ]] || result=ok
  fi
  printf '%s %6s  %s\n' "$(step_head "$title")" "$(step_clock $spent)" "$result"
  if [[ $status != 0 ]]; then
    step_failures "$step_log"
    printf '        the end of %s:\n' "$step_log"
    tail -n 40 "$step_log" | sed 's/^/        | /'
  fi
  return "$status"
}
