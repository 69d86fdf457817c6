#!/usr/bin/env bash
# Builds the Go peer on Debian's own Go libraries, without modules and without a network:
#   tests/go_peer/build.sh OUT
# Packages: golang-go golang-golang-x-crypto-dev golang-github-gorilla-websocket-dev.
set -euo pipefail
[[ $# == 1 ]] || { echo "usage: tests/go_peer/build.sh OUT" >&2; exit 2; }
out=$(realpath -m "$1")
cd "$(dirname "$0")"
for package in golang.org/x/crypto/ssh github.com/gorilla/websocket; do
    [[ -d /usr/share/gocode/src/$package ]] || {
        echo "go_peer: $package is missing; install golang-golang-x-crypto-dev and golang-github-gorilla-websocket-dev" >&2
        exit 1
    }
done
mkdir -p "$(dirname "$out")"
export GO111MODULE=off GOPATH=/usr/share/gocode GOFLAGS= GOPROXY=off GOTOOLCHAIN=local CGO_ENABLED=0
export GOCACHE=${GOCACHE:-$(dirname "$out")/.go-cache}
exec go build -trimpath -o "$out" ./*.go
