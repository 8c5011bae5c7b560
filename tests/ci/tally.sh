# Sourced by scripts that run many tests and close with one line "N passed, N failed".

passed=0
failed=0

# add LOG STATUS: adds the last line "N passed, N failed" of a finished command's output. A command
# without such a line counts as one test, and one that fails while its line admits no failure (a
# crash at exit, a time-out) as one failure. Returns whether nothing failed.
add() {
  local counts ok=0 bad=0
  counts=$(grep -aE '^[0-9]+ passed, [0-9]+ failed$' "$1" | tail -n 1)
  if [ -n "$counts" ]; then
    read -r ok _ bad _ <<<"$counts"
  elif [ "$2" -eq 0 ]; then
    ok=1
  fi
  if [ "$2" -ne 0 ] && [ "$bad" -eq 0 ]; then
    bad=1
  fi
  passed=$((passed + ok))
  failed=$((failed + bad))
  [ "$bad" -eq 0 ]
}

# reason STATUS SECONDS: why a command that timeout(1) ran has failed.
reason() {
  case $1 in
    0) echo "some failed" ;;
    124 | 137) echo "ended after $2 seconds" ;;
    *) echo "exit status $1" ;;
  esac
}

# check NAME SECONDS COMMAND...: runs a test for at most so long; shows its output if it fails.
check() {
  local name=$1 seconds=$2 status=0 log
  shift 2
  log=$(mktemp)
  timeout -k 10 "$seconds" "$@" </dev/null >"$log" 2>&1 || status=$?
  if add "$log" "$status"; then
    echo "ok      $name"
  else
    echo "FAILED  $name: $(reason "$status" "$seconds")"
    cat "$log"
    echo
  fi
  rm -f "$log"
}

# suite NAME SECONDS COMMAND...: like check, but shows the output as it comes.
suite() {
  local name=$1 seconds=$2 status=0 log
  shift 2
  log=$(mktemp)
  printf '\n== %s\n' "$name"
  timeout -k 10 "$seconds" "$@" </dev/null >"$log" 2>&1 &
  # Not a pipe into tee: a stray child that holds the pipe open must not hold us up.
  tail -n +1 -s 0.1 -f --pid=$! "$log"
  wait $! || status=$?
  add "$log" "$status" || echo "$name: $(reason "$status" "$seconds")"
  rm -f "$log"
}

# total: prints the sums, and fails unless something passed and nothing failed.
total() {
  printf '\n%d passed, %d failed\n' "$passed" "$failed"
  [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
}
