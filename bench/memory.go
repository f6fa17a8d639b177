package main

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/export/memexport"
	"github.com/holdfast-cloud/holdfast/internal/export/nbd"
)

// serveMemory serves a memory volume over Holdfast's NBD server until it gets
// SIGTERM or SIGINT: what the server itself costs, without a store beneath.
// It prints the path of its socket. With profile it writes a CPU profile.
func serveMemory(dir string, size int64, profile string) error {
	target, err := memexport.New(size, false)
	if err != nil {
		return err
	}
	srv, err := nbd.New(nbd.Config{Dir: dir})
	if err != nil {
		return err
	}
	defer srv.Close()
	id, err := holdfast.NewUUID(rand.Reader)
	if err != nil {
		return err
	}
	path, err := srv.Publish(holdfast.VolumeID{UUID: id}, "memory", export.Target(target))
	if err != nil {
		return err
	}
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	fmt.Println(path)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	<-stop
	return nil
}
