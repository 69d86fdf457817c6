// UDP channels as Go chisel has them (docs/wire.md section 9): a gob stream each way, both roles.
package main

import (
	"encoding/gob"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	udpMaxSize  = 9012
	udpDeadline = 15 * time.Second
	udpMaxConns = 100
)

// udpPacket goes by this name on the wire.
type udpPacket struct {
	Src     string
	Payload []byte
}

type udpChannel struct {
	lock sync.Mutex
	out  *gob.Encoder
	in   *gob.Decoder
}

// recorder prints what passes as hexadecimal text, for tests that compare octets.
type recorder struct {
	io.ReadWriter
	log func(direction string, octets []byte)
}

func (r recorder) Read(into []byte) (int, error) {
	n, err := r.ReadWriter.Read(into)
	r.log("in", into[:n])
	return n, err
}
func (r recorder) Write(octets []byte) (int, error) {
	r.log("out", octets)
	return r.ReadWriter.Write(octets)
}

func (b *behaviour) udpStream(stream io.ReadWriter) *udpChannel {
	if b.udpRecord {
		stream = recorder{stream, func(direction string, octets []byte) {
			fmt.Printf("gob %s %s\n", direction, hex.EncodeToString(octets))
		}}
	}
	return &udpChannel{out: gob.NewEncoder(stream), in: gob.NewDecoder(stream)}
}

func (c *udpChannel) send(source string, payload []byte) error {
	c.lock.Lock()
	defer c.lock.Unlock()
	return c.out.Encode(udpPacket{source, payload})
}

// serveUDP is the exit side: a connected socket for each Src, its reader ends when the target has been silent.
func (b *behaviour) serveUDP(request ssh.NewChannel, target string) {
	stream, requests, err := request.Accept()
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	defer stream.Close()
	channel := b.udpStream(stream)
	b.debugf("udp %s: open", target)
	var lock sync.Mutex
	flows := map[string]net.Conn{}
	defer func() {
		lock.Lock()
		defer lock.Unlock()
		for _, flow := range flows {
			flow.Close()
		}
	}()
	for {
		var packet udpPacket
		if err := channel.in.Decode(&packet); err != nil {
			b.debugf("udp %s: %v", target, err)
			return
		}
		lock.Lock()
		flow := flows[packet.Src]
		if flow == nil {
			flow, err = net.Dial("udp", target)
			if err != nil {
				lock.Unlock()
				b.debugf("udp %s: %v", target, err)
				if b.udpFragile {
					return
				}
				continue
			}
			flows[packet.Src] = flow
			if len(flows) <= udpMaxConns {
				go func(source string, flow net.Conn) {
					buffer := make([]byte, udpMaxSize)
					for {
						flow.SetReadDeadline(time.Now().Add(udpDeadline))
						n, err := flow.Read(buffer)
						if err != nil && strings.Contains(err.Error(), "refused") {
							if !b.udpFragile {
								continue
							}
							// 1.11 closes the channel when the error meets a send; here it need not win a race for that.
							stream.Close()
						}
						if err != nil || channel.send(source, buffer[:n]) != nil {
							break
						}
					}
					lock.Lock()
					delete(flows, source)
					lock.Unlock()
					flow.Close()
				}(packet.Src, flow)
			}
		}
		lock.Unlock()
		if _, err := flow.Write(packet.Payload); err != nil && b.udpFragile {
			b.debugf("udp %s: %v", target, err)
			return // as 1.11: one refused flow ends the channel
		}
	}
}

// udpEntry is the local socket of a UDP remote; it lives as long as the client.
type udpEntry struct {
	remote *remote
	socket *net.UDPConn
	lock   sync.Mutex
	peers  map[string]*udpKnown
	latest *udpChannel
}

type udpKnown struct {
	address *net.UDPAddr
	last    time.Time
}

func listenUDP(r *remote) (*udpEntry, error) {
	address, err := net.ResolveUDPAddr("udp", r.local())
	if err != nil {
		return nil, err
	}
	socket, err := net.ListenUDP("udp", address)
	if err != nil {
		return nil, err
	}
	e := &udpEntry{remote: r, socket: socket, peers: map[string]*udpKnown{}}
	go e.readSocket()
	return e, nil
}

func (e *udpEntry) readSocket() {
	buffer := make([]byte, udpMaxSize)
	for {
		n, from, err := e.socket.ReadFromUDP(buffer)
		if err != nil {
			return
		}
		e.lock.Lock()
		channel := e.latest
		e.peers[from.String()] = &udpKnown{from, time.Now()}
		e.lock.Unlock()
		if channel != nil {
			channel.send(from.String(), buffer[:n])
		}
	}
}

// session opens the channel at once; a rejection ends the process, as with Go chisel.
func (e *udpEntry) session(b *behaviour, conn ssh.Conn) error {
	stream, requests, err := conn.OpenChannel("chisel", []byte(e.remote.target()+"/udp"))
	if err != nil {
		return err
	}
	go ssh.DiscardRequests(requests)
	channel := b.udpStream(stream)
	e.lock.Lock()
	e.latest = channel
	e.lock.Unlock()
	fmt.Printf("udp channel open\n")
	for {
		var packet udpPacket
		if err := channel.in.Decode(&packet); err != nil {
			log.Printf("udp %s: %v", e.remote, err)
			fmt.Printf("udp channel closed\n")
			return nil
		}
		e.lock.Lock()
		known := e.peers[packet.Src]
		e.lock.Unlock()
		if known != nil && time.Since(known.last) <= udpDeadline {
			e.socket.WriteToUDP(packet.Payload, known.address)
		}
	}
}
