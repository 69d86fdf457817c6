// Go peer: the other end of the tunnel for Burin's whole-system tests. It speaks chisel's wire (docs/wire.md) in both
// roles on the libraries chisel stands on (x/crypto/ssh, gorilla/websocket), and was written from that text alone.
//
//	go_peer server ...   chisel server         go_peer client ...  chisel client
//	go_peer raw ...      an SSH transport of its own that hands every packet to a script (violations, recordings)
//	go_peer load ...     traffic: checksummed sources and sinks, many connections, readers that never read
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"runtime"
	"strings"
)

func main() {
	log.SetFlags(log.Ltime | log.Lmicroseconds)
	if len(os.Args) < 2 {
		usage()
	}
	arguments := os.Args[2:]
	var err error
	switch os.Args[1] {
	case "server":
		err = runServer(arguments)
	case "client":
		err = runClient(arguments)
	case "raw":
		err = runRaw(arguments)
	case "churn":
		err = runChurn(arguments)
	case "load":
		err = runLoad(arguments)
	case "key":
		err = runKey(arguments)
	case "version":
		fmt.Println(runtime.Version())
	default:
		usage()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "go_peer:", err)
		os.Exit(1)
	}
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: go_peer server|client|raw|load|key|version ... (each with --help)")
	os.Exit(2)
}

// names is a comma-separated flag.
type names []string

func (n *names) String() string { return strings.Join(*n, ",") }
func (n *names) Set(text string) error {
	*n = strings.Split(text, ",")
	return nil
}

// repeated is a flag that may be given several times.
type repeated []string

func (r *repeated) String() string { return strings.Join(*r, " ") }
func (r *repeated) Set(text string) error {
	*r = append(*r, text)
	return nil
}

func newFlags(name string) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ExitOnError)
	flags.SetOutput(os.Stderr)
	return flags
}

// exitWithStdin ends the process when whoever started it closes our standard input, so that nothing is left behind.
func exitWithStdin() {
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
}
