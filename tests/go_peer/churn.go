// churn: many short sessions one after another on a few lines at once, to see whether a server keeps anything of them.
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

// runChurn opens --count sessions; each declares no remote, carries one echo over one channel and is cut off in one of
// three ways: closed, closed without closing the channel, reset.
func runChurn(arguments []string) error {
	var o dialOptions
	var target string
	var count, lines int64
	flags := newFlags("churn")
	flags.StringVar(&o.server, "server", "", "URL of the server")
	flags.StringVar(&target, "target", "", "host:port of an echo; none: no channel")
	flags.Int64Var(&count, "count", 1000, "sessions")
	flags.Int64Var(&lines, "lines", 4, "sessions at once")
	flags.Parse(arguments)
	exitWithStdin()

	var started, failed int64
	var first atomic.Value
	var all sync.WaitGroup
	begin := time.Now()
	for i := int64(0); i < lines; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			for {
				n := atomic.AddInt64(&started, 1)
				if n > count {
					return
				}
				if err := o.shortSession(target, n); err != nil {
					if atomic.AddInt64(&failed, 1) == 1 {
						first.Store(err.Error())
					}
				}
			}
		}()
	}
	all.Wait()
	fmt.Printf("{\"sessions\": %d, \"failed\": %d, \"seconds\": %.3f, \"first_error\": %q}\n", count, failed,
		time.Since(begin).Seconds(), fmt.Sprint(first.Load()))
	return nil
}

func (o dialOptions) shortSession(target string, n int64) error {
	stream, err := o.dial()
	if err != nil {
		return err
	}
	defer stream.Close()
	stream.SetDeadline(time.Now().Add(60 * time.Second))
	conn, channels, requests, err := ssh.NewClientConn(stream, "", &ssh.ClientConfig{
		ClientVersion:   "SSH-chisel-v3-client",
		Auth:            []ssh.AuthMethod{ssh.Password("")},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	if err != nil {
		return err
	}
	go answerRequests(requests)
	go refuseChannels(channels)
	_, reply, err := conn.SendRequest("config", true, config{Version: peerVersion}.encode())
	if err != nil || len(reply) > 0 {
		return fmt.Errorf("config: %v %s", err, reply)
	}
	if target == "" {
		return conn.Close()
	}
	channel, channelRequests, err := conn.OpenChannel("chisel", []byte(target))
	if err != nil {
		return err
	}
	go ssh.DiscardRequests(channelRequests)
	request := header{mode: modeEcho, bytes: unlimited}.encode()
	message := append(request[:], []byte("short")...)
	if _, err := channel.Write(message); err != nil {
		return err
	}
	back := make([]byte, 5)
	if _, err := io.ReadFull(channel, back); err != nil {
		return err
	}
	if string(back) != "short" {
		return errors.New("echo differs")
	}
	switch n % 3 {
	case 0:
		channel.Close()
		return conn.Close()
	case 1:
		return conn.Close()
	}
	if ws, ok := stream.(*messageStream); ok {
		ws.UnderlyingConn().(*net.TCPConn).SetLinger(0)
	}
	return stream.Close()
}
