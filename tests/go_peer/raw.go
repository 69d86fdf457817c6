// raw: the bridge between a script and the transport of transport.go. The script writes commands to our standard input
// and reads events from our standard output; both are records of uint32 length, one letter, and a body.
//
//	commands  P payload            one SSH packet                   T kind payload   one spoiled packet (tampering)
//	          S bytes              into the stream, unsealed        W first masked payload   one WebSocket frame
//	          C bytes              to the socket, below everything  K   start a rekey
//	          F   end our writing  R   reset the connection         Q   close it      M   tell the messages so far
//	events    A json  a connection, its HTTP request                H json  handshake (or rekey) done
//	          P payload  a packet  W opcode payload  a control frame         E text  the connection is over
//	          M json  the shapes of the peer's messages
package main

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

type rawOptions struct {
	transportOptions
	role, address string
	native        bool
	path          string
	headers       repeated
	extraHeader   string
	delay101      time.Duration
	key           keyOptions
	autoPong      bool
	receiveBuffer int
}

type bridge struct {
	rawOptions
	output    *bufio.Writer
	lock      sync.Mutex
	current   *transport
	frames    *frameStream
	socket    *net.TCPConn
	connected *sync.Cond
}

func runRaw(arguments []string) error {
	b := &bridge{output: bufio.NewWriterSize(os.Stdout, 256*1024)}
	b.connected = sync.NewCond(&b.lock)
	flags := newFlags("raw")
	flags.StringVar(&b.role, "role", "client", "client or server")
	flags.StringVar(&b.address, "address", "", "host:port to connect to or to listen on")
	flags.BoolVar(&b.native, "native", false, "SSH straight on TCP")
	flags.StringVar(&b.path, "path", "/", "path of the GET")
	flags.Var(&b.headers, "header", "Name: value of the GET, repeatable")
	flags.StringVar(&b.extraHeader, "extra-header", "", "Name: value of the 101")
	flags.DurationVar(&b.delay101, "delay-101", 0, "wait before the 101")
	flags.StringVar(&b.version, "version-line", "", "without CR LF")
	b.kex = names{"curve25519-sha256", "curve25519-sha256@libssh.org"}
	b.ciphers = names{"aes128-gcm@openssh.com", "aes256-gcm@openssh.com"}
	b.hostKeys = names{"ecdsa-sha2-nistp256", "ssh-ed25519"}
	flags.Var(&b.kex, "kex", "key exchanges (only curve25519 works)")
	flags.Var(&b.ciphers, "ciphers", "ciphers (only AES-GCM works)")
	flags.Var(&b.hostKeys, "host-key-algorithms", "of the client")
	flags.BoolVar(&b.strict, "strict", true, "offer strict key exchange")
	flags.BoolVar(&b.extInfo, "ext-info", true, "offer (client) or send (server) EXT_INFO")
	flags.Var(&b.extraExtInfo, "extra-ext-info", "name=value,... entries of EXT_INFO")
	flags.Var(&b.inject, "inject", "before-kexinit, in-kex, debug-in-kex, wrong-signature")
	flags.BoolVar(&b.guess, "guess", false, "client: send a guessed ECDH_INIT with the KEXINIT")
	flags.StringVar(&b.stopAfter, "stop-after", "", "http, version, kexinit, ecdh: say no more after it")
	flags.StringVar(&b.key.seed, "key-seed", "", "server: deterministic host key")
	flags.StringVar(&b.key.kind, "key-type", "", "server: ecdsa, ed25519")
	flags.BoolVar(&b.autoPong, "pong", true, "answer WebSocket pings")
	flags.IntVar(&b.receiveBuffer, "receive-buffer", 0, "SO_RCVBUF of the connection")
	flags.Parse(arguments)
	b.server = b.role == "server"
	if b.version == "" {
		b.version = map[bool]string{true: "SSH-2.0-go_peer", false: "SSH-chisel-v3-" + b.role}[b.native]
	}
	var err error
	if b.signer, err = b.key.signer(); err != nil {
		return err
	}
	if !b.server {
		go b.commands()
		socket, err := net.DialTimeout("tcp", b.address, 30*time.Second)
		if err != nil {
			return err
		}
		b.serve(socket.(*net.TCPConn))
		select {} // until the script closes our standard input
	}
	listener, err := net.Listen("tcp", b.address)
	if err != nil {
		return err
	}
	b.event('L', []byte(listener.Addr().String()))
	go b.commands()
	for {
		socket, err := listener.Accept()
		if err != nil {
			return err
		}
		b.serve(socket.(*net.TCPConn))
	}
}

func (b *bridge) event(kind byte, body []byte) {
	b.lock.Lock()
	defer b.lock.Unlock()
	var head [5]byte
	binary.BigEndian.PutUint32(head[:], uint32(len(body)+1))
	head[4] = kind
	b.output.Write(head[:])
	b.output.Write(body)
	b.output.Flush()
}

func (b *bridge) eventJSON(kind byte, value interface{}) {
	text, _ := json.Marshal(value)
	b.event(kind, text)
}

// ended tells how a connection went: eof, reset, or the error's text.
func ended(err error) string {
	switch {
	case errors.Is(err, io.EOF):
		return "eof"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "eof in the middle"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset"
	}
	return err.Error()
}

func (b *bridge) serve(socket *net.TCPConn) {
	err := b.session(socket)
	b.lock.Lock()
	b.current, b.frames, b.socket = nil, nil, nil
	b.lock.Unlock()
	socket.Close()
	b.event('E', []byte(ended(err)))
}

func (b *bridge) session(socket *net.TCPConn) error {
	if b.receiveBuffer > 0 {
		socket.SetReadBuffer(b.receiveBuffer)
	}
	reader := bufio.NewReaderSize(socket, 64*1024)
	var stream io.ReadWriter = struct {
		io.Reader
		io.Writer
	}{reader, socket}
	accepted := map[string]string{"from": socket.RemoteAddr().String()}
	var frames *frameStream
	if !b.native {
		frames = &frameStream{Conn: socket, client: !b.server, reader: reader}
		frames.control = func(opcode byte, payload []byte) {
			b.event('W', append([]byte{opcode}, payload...))
			if opcode == 9 && b.autoPong {
				frames.writeFrame(0x8a, frames.client, payload)
			}
		}
		var err error
		var header string
		if b.server {
			header, err = b.upgradeAsServer(socket, reader)
		} else {
			header, err = b.upgradeAsClient(socket, reader)
		}
		accepted["request"] = header
		if err != nil {
			b.eventJSON('A', accepted)
			return err
		}
		stream = frames
	}
	t := newTransport(stream, b.transportOptions)
	if frames != nil {
		frames.batch = b.offersBatch()
		t.packetEnd = frames.packetEnded
	}
	b.lock.Lock()
	b.frames, b.socket, b.current = frames, socket, t
	b.lock.Unlock()
	b.eventJSON('A', accepted)
	if b.stopAfter == "http" {
		return b.drain(stream, nil)
	}
	if err := t.handshake(); err != nil {
		if err == errStopped {
			return b.drain(stream, t.reader)
		}
		return err
	}
	b.eventJSON('H', t.info)
	for {
		packet, rekeyed, err := t.next()
		if err != nil {
			return err
		}
		if rekeyed {
			b.eventJSON('H', t.info)
			continue
		}
		b.event('P', packet)
	}
}

// offersBatch: whether our head says that we take many packets in a message.
func (b *bridge) offersBatch() bool {
	return strings.HasPrefix(b.extraHeader, "Burin-Features:") || strings.Contains(b.headers.String(), "Burin-Features:")
}

// drain reads on without a word, and hands the bytes to the script.
func (b *bridge) drain(stream io.Reader, buffered io.Reader) error {
	if buffered != nil {
		stream = buffered
	}
	buffer := make([]byte, 64*1024)
	for {
		n, err := stream.Read(buffer)
		if n > 0 {
			b.event('S', buffer[:n])
		}
		if err != nil {
			return err
		}
	}
}

func readHeader(reader *bufio.Reader) (string, error) {
	var text strings.Builder
	for !strings.HasSuffix(text.String(), "\r\n\r\n") {
		if text.Len() > 65536 {
			return text.String(), errText("header of more than 64 KiB")
		}
		line, err := reader.ReadString('\n')
		text.WriteString(line)
		if err != nil {
			return text.String(), err
		}
	}
	return text.String(), nil
}

func (b *bridge) upgradeAsClient(socket net.Conn, reader *bufio.Reader) (string, error) {
	request := "GET " + b.path + " HTTP/1.1\r\nHost: " + b.address + "\r\nUser-Agent: Go-http-client/1.1\r\n" +
		"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
		"Sec-WebSocket-Protocol: chisel-v3\r\nSec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n"
	for _, header := range b.headers {
		request += header + "\r\n"
	}
	if _, err := io.WriteString(socket, request+"\r\n"); err != nil {
		return "", err
	}
	header, err := readHeader(reader)
	if err == nil && !strings.HasPrefix(header, "HTTP/1.1 101 ") {
		err = errText("no upgrade")
	}
	return header, err
}

func (b *bridge) upgradeAsServer(socket net.Conn, reader *bufio.Reader) (string, error) {
	header, err := readHeader(reader)
	if err != nil {
		return header, err
	}
	request, err := http.ReadRequest(bufio.NewReader(strings.NewReader(header)))
	if err != nil {
		return header, err
	}
	if b.delay101 > 0 {
		// Nothing may come before the 101 (section 1.2).
		socket.SetReadDeadline(time.Now().Add(b.delay101))
		if early, err := reader.Peek(1); err == nil {
			return header, fmt.Errorf("VIOLATION: byte %#x before the 101", early)
		}
		socket.SetReadDeadline(time.Time{})
	}
	sum := sha1.Sum([]byte(request.Header.Get("Sec-Websocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	reply := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		base64.StdEncoding.EncodeToString(sum[:]) + "\r\n"
	if b.extraHeader != "" {
		reply += b.extraHeader + "\r\n"
	}
	_, err = io.WriteString(socket, reply+"\r\n")
	return header, err
}

func (b *bridge) commands() {
	input := bufio.NewReaderSize(os.Stdin, 256*1024)
	for {
		var head [5]byte
		if _, err := io.ReadFull(input, head[:]); err != nil {
			os.Exit(0)
		}
		body := make([]byte, binary.BigEndian.Uint32(head[:])-1)
		if _, err := io.ReadFull(input, body); err != nil {
			os.Exit(0)
		}
		b.lock.Lock()
		t, frames, socket := b.current, b.frames, b.socket
		b.lock.Unlock()
		if t == nil && head[4] == 'M' {
			b.eventJSON('M', messageShapes{})
			continue
		}
		if t == nil {
			continue // the connection went away under the script; it will read the E event
		}
		switch head[4] {
		case 'P':
			t.write(body, intact)
		case 'T':
			t.write(body[1:], tampering(body[0]))
		case 'S':
			t.stream.Write(body)
		case 'W':
			frames.writeFrame(body[0], body[1] != 0, body[2:])
		case 'C':
			socket.Write(body)
		case 'K':
			t.startRekey()
		case 'M':
			b.eventJSON('M', frames.taken())
		case 'F':
			socket.CloseWrite()
		case 'R':
			socket.SetLinger(0)
			socket.Close()
		case 'Q':
			socket.Close()
		}
	}
}
