#!/bin/sh
# Regenerates rpc/gen from rpc/proto. Needs protoc (Debian: protobuf-compiler and libprotobuf-dev); the two Go plugins are built at the versions
# of go.mod, so that the result depends on nothing else.
set -eu
cd "$(dirname "$0")"
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
go build -o "$bin/" google.golang.org/protobuf/cmd/protoc-gen-go connectrpc.com/connect/cmd/protoc-gen-connect-go
rm -rf gen
mkdir gen
PATH="$bin:$PATH" protoc -I proto --go_out=gen --go_opt=module=github.com/eschaton-network/chand/rpc/gen \
	--connect-go_out=gen --connect-go_opt=module=github.com/eschaton-network/chand/rpc/gen,simple \
	proto/chand/v1/*.proto
# The version of protoc is not part of the schema.
find gen -name '*.pb.go' -exec sed -i '/^\/\/ 	protoc  /d' {} +
gofmt -l gen
