# Sourced by each run script: where the interpreter to measure is, and bench.lua.
peers=${0%/*}/../..
root=$peers/../../..
: "${MOONLET:=$root/build/moonlet}"
export MOONLET LUA_PATH="$peers/?.lua;;"
unset LUA_INIT LUA_INIT_5_4 LUA_PATH_5_4
