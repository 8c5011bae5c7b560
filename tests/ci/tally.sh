# Sourced by scripts that run several suites and close with one line "N passed, N failed".

passed=0
failed=0

# suite NAME SECONDS COMMAND...: shows COMMAND's output, ends it after SECONDS, and adds what its
# last line "N passed, N failed" says. A command without such a line counts as one check, and one
# that fails while its line admits no failure (a crash at exit, a time-out) counts as one failure.
suite() {
  local name=$1 seconds=$2 status=0 log counts
  shift 2
  log=$(mktemp)
  printf '\n== %s\n' "$name"
  timeout -k 10 "$seconds" "$@" </dev/null >"$log" 2>&1 &
  # Not a pipe into tee: a stray child that holds the pipe open must not hold us up.
  tail -n +1 -s 0.1 -f --pid=$! "$log"
  wait $! || status=$?
  counts=$(grep -aE '^[0-9]+ passed, [0-9]+ failed$' "$log" | tail -n 1)
  rm -f "$log"
  if [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then
    printf "\n%s: ended after %d seconds\n" "$name" "$seconds"
  elif [ "$status" -ne 0 ]; then
    echo "$name: exit status $status"
  fi
  local suite_passed=0 suite_failed=0
  if [ -n "$counts" ]; then
    read -r suite_passed _ suite_failed _ <<<"$counts"
  elif [ "$status" -eq 0 ]; then
    suite_passed=1
  fi
  if [ "$status" -ne 0 ] && [ "$suite_failed" -eq 0 ]; then
    suite_failed=1
  fi
  passed=$((passed + suite_passed))
  failed=$((failed + suite_failed))
}

# total: prints the sum of all suites and fails if anything did.
total() {
  printf '\n%d passed, %d failed\n' "$passed" "$failed"
  [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
}
