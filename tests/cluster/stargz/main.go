// stargz-snapshotter publishes its service only as a library. This program serves it:
//
//	stargz-snapshotter serve SOCKET ROOT INSECURE-HOST
//
// It also converts a layer into the format that it can stream, and prints the digests of its table of
// contents and of its uncompressed tar:
//
//	stargz-snapshotter convert IN OUT
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/v2/contrib/snapshotservice"
	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/containerd/stargz-snapshotter/service"
	"github.com/containerd/stargz-snapshotter/service/resolver"
	"google.golang.org/grpc"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "stargz-snapshotter:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 4 && args[0] == "serve":
		return serve(args[1], args[2], args[3])
	case len(args) == 3 && args[0] == "convert":
		return convert(args[1], args[2])
	}
	return fmt.Errorf("usage: serve SOCKET ROOT INSECURE-HOST, or convert IN OUT")
}

func serve(socket, root, host string) error {
	config := &service.Config{}
	config.ResolverConfig.Host = map[string]resolver.HostConfig{
		host: {Mirrors: []resolver.MirrorConfig{{Host: host, Insecure: true}}},
	}
	snapshotter, err := service.NewStargzSnapshotterService(context.Background(), root, config)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	snapshotsapi.RegisterSnapshotsServer(server, snapshotservice.FromSnapshotter(snapshotter))
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	return server.Serve(listener)
}

func convert(in, out string) error {
	file, err := os.Open(in)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	blob, err := estargz.Build(io.NewSectionReader(file, 0, info.Size()))
	if err != nil {
		return err
	}
	defer blob.Close()
	target, err := os.Create(out)
	if err != nil {
		return err
	}
	if _, err := io.Copy(target, blob); err != nil {
		return err
	}
	fmt.Println(blob.TOCDigest(), blob.DiffID())
	return target.Close()
}
