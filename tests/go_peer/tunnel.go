// What both roles share once SSH is up: the config request (docs/wire.md section 7), keepalive (8.1), the exit side that
// dials (8.2), the entry side that listens, and the pipe between a socket and a channel (8.6).
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

// remote is one entry of the config, fields in the order of the wire.
type remote struct {
	LocalHost, LocalPort, LocalProto    string
	RemoteHost, RemotePort, RemoteProto string
	Socks, Reverse, Stdio               bool
}

type config struct {
	Version string
	Remotes []*remote
}

func (c config) encode() []byte {
	text, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	return text
}

var remotePart = regexp.MustCompile(`(\[[^\[\]]+\]|[^\[\]:]+):?`)

// parseRemote takes the forms PORT, HOST:PORT, LPORT:HOST:RPORT and LHOST:LPORT:HOST:RPORT, R: before any, /udp behind.
func parseRemote(text string) (*remote, error) {
	r := &remote{LocalProto: "tcp", RemoteProto: "tcp", LocalHost: "0.0.0.0", RemoteHost: "127.0.0.1"}
	rest := strings.TrimPrefix(text, "R:")
	r.Reverse = rest != text
	if plain := strings.TrimSuffix(rest, "/udp"); plain != rest {
		rest, r.LocalProto, r.RemoteProto = plain, "udp", "udp"
	}
	var parts []string
	for _, match := range remotePart.FindAllStringSubmatch(rest, -1) {
		parts = append(parts, match[1])
	}
	switch len(parts) {
	case 1:
		r.LocalPort, r.RemotePort = parts[0], parts[0]
	case 2:
		r.RemoteHost, r.LocalPort, r.RemotePort = parts[0], parts[1], parts[1]
	case 3:
		r.LocalPort, r.RemoteHost, r.RemotePort = parts[0], parts[1], parts[2]
	case 4:
		r.LocalHost, r.LocalPort, r.RemoteHost, r.RemotePort = parts[0], parts[1], parts[2], parts[3]
	default:
		return nil, errors.New("Invalid remote")
	}
	return r, nil
}

func (r *remote) local() string {
	return net.JoinHostPort(strings.Trim(r.LocalHost, "[]"), r.LocalPort)
}
func (r *remote) target() string { return r.RemoteHost + ":" + r.RemotePort }

// behaviour is where the chisel versions differ.
type behaviour struct {
	noEOF             bool // 1.11: never sends EOF; one direction ending closes both
	confirmBeforeDial bool // 1.11: confirms the channel, then dials
	udpFragile        bool // 1.11: one refused flow ends its UDP channel
	udpRecord         bool // print the octets of UDP channels
	udpRefused        bool // reject UDP channels
	dialTimeout       time.Duration
	verbose           bool
	opened, live      int64
}

func (b *behaviour) debugf(format string, values ...interface{}) {
	if b.verbose {
		log.Printf(format, values...)
	}
}

// keepalive sends chisel's ping; a reply that is late or strange ends the connection.
func keepalive(conn ssh.Conn, every, timeout time.Duration) {
	if every <= 0 {
		return
	}
	if timeout <= 0 {
		timeout = every
	}
	for {
		time.Sleep(every)
		result := make(chan error, 1)
		go func() {
			_, reply, err := conn.SendRequest("ping", true, nil)
			if err == nil && len(reply) > 0 && string(reply) != "pong" {
				err = errors.New("strange ping response")
			}
			result <- err
		}()
		var err error
		select {
		case err = <-result:
		case <-time.After(timeout):
			err = errors.New("ping timeout")
		}
		if err != nil {
			log.Printf("keepalive: %v", err)
			conn.Close()
			return
		}
	}
}

// answerRequests answers ping and, as Go chisel does, nothing else.
func answerRequests(requests <-chan *ssh.Request) {
	for request := range requests {
		if request.Type == "ping" {
			request.Reply(true, []byte("pong"))
		} else {
			log.Printf("global request %q is left unanswered", request.Type)
		}
	}
}

// refuseChannels is the client without reverse remotes.
func refuseChannels(channels <-chan ssh.NewChannel) {
	for channel := range channels {
		channel.Reject(ssh.Prohibited, "Denied outbound connection")
	}
}

// serveChannels is the exit side: every channel, whatever its type, names a target to dial.
func (b *behaviour) serveChannels(channels <-chan ssh.NewChannel) {
	for channel := range channels {
		go b.serveChannel(channel)
	}
}

func (b *behaviour) serveChannel(request ssh.NewChannel) {
	target := string(request.ExtraData())
	atomic.AddInt64(&b.opened, 1)
	if target == "socks" {
		request.Reject(ssh.Prohibited, "SOCKS5 is not enabled")
		return
	}
	if strings.HasSuffix(target, "/udp") {
		if b.udpRefused {
			request.Reject(ssh.Prohibited, "no UDP here")
			return
		}
		b.serveUDP(request, strings.TrimSuffix(target, "/udp"))
		return
	}
	target = strings.TrimSuffix(target, "/tcp")
	timeout := b.dialTimeout
	if b.confirmBeforeDial {
		stream, requests, err := request.Accept()
		if err != nil {
			return
		}
		go ssh.DiscardRequests(requests)
		socket, err := net.DialTimeout("tcp", target, timeout)
		if err != nil {
			b.debugf("%s: %v", target, err)
			stream.Close()
			return
		}
		b.pipe(socket.(*net.TCPConn), stream)
		return
	}
	socket, err := net.DialTimeout("tcp", target, timeout)
	if err != nil {
		b.debugf("%s: %v", target, err)
		request.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	stream, requests, err := request.Accept()
	if err != nil {
		socket.Close()
		return
	}
	go ssh.DiscardRequests(requests)
	b.pipe(socket.(*net.TCPConn), stream)
}

// pipe moves bytes until both directions ended (1.12), or until either did (1.11).
func (b *behaviour) pipe(socket *net.TCPConn, stream ssh.Channel) (sent, received int64) {
	atomic.AddInt64(&b.live, 1)
	defer atomic.AddInt64(&b.live, -1)
	var both sync.WaitGroup
	var once sync.Once
	end := func() {
		once.Do(func() {
			socket.Close()
			stream.Close()
		})
	}
	both.Add(2)
	go func() {
		defer both.Done()
		var err error
		received, err = io.Copy(socket, stream)
		if b.noEOF || err != nil {
			end()
		} else {
			socket.CloseWrite()
		}
	}()
	go func() {
		defer both.Done()
		var err error
		sent, err = io.Copy(stream, socket)
		if b.noEOF || err != nil {
			end()
		} else {
			stream.CloseWrite()
		}
	}()
	both.Wait()
	end()
	return
}

// entry is one listener; its connections wait for a session.
type entry struct {
	remote   *remote
	listener net.Listener
}

// sessionBox hands the current SSH connection to whoever waits for one.
type sessionBox struct {
	lock  sync.Mutex
	ready *sync.Cond
	conn  ssh.Conn
}

func newSessionBox() *sessionBox {
	box := &sessionBox{}
	box.ready = sync.NewCond(&box.lock)
	return box
}

func (s *sessionBox) put(conn ssh.Conn) {
	s.lock.Lock()
	s.conn = conn
	s.lock.Unlock()
	s.ready.Broadcast()
}

func (s *sessionBox) get() ssh.Conn {
	s.lock.Lock()
	defer s.lock.Unlock()
	for s.conn == nil {
		s.ready.Wait()
	}
	return s.conn
}

func (b *behaviour) serveEntry(e entry, box *sessionBox, open func(ssh.Conn) (ssh.Channel, <-chan *ssh.Request, error)) {
	for {
		socket, err := e.listener.Accept()
		if err != nil {
			return
		}
		go func() {
			stream, requests, err := open(box.get())
			if err != nil {
				log.Printf("Stream error: %v", err)
				socket.(*net.TCPConn).SetLinger(0)
				socket.Close()
				return
			}
			go ssh.DiscardRequests(requests)
			b.pipe(socket.(*net.TCPConn), stream)
		}()
	}
}

func (r *remote) String() string {
	text := fmt.Sprintf("%s:%s=>%s", r.LocalHost, r.LocalPort, r.target())
	if r.Reverse {
		text = "R:" + text
	}
	return text
}
