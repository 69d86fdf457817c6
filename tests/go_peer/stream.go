// The byte pipe below SSH: a WebSocket in chisel's shape (docs/wire.md section 3). Each Write is one binary message;
// gorilla's default buffers then give the frames that section 3.2 shows: 4096-byte fragments from a client, whole
// frames from a server. Message boundaries mean nothing to the reader.
package main

import (
	"crypto/rand"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

const chiselProtocol = "chisel-v3"

// messageStream makes a net.Conn of a WebSocket.
type messageStream struct {
	*websocket.Conn
	reader io.Reader
	text   bool // sends text messages instead of binary ones
	pings  bool // sends a ping before every message
	lock   sync.Mutex
}

func (s *messageStream) Read(into []byte) (int, error) {
	for {
		if s.reader == nil {
			_, reader, err := s.NextReader()
			if err != nil {
				return 0, err
			}
			s.reader = reader
		}
		n, err := s.reader.Read(into)
		if err == io.EOF {
			s.reader = nil
			if n == 0 {
				continue
			}
			err = nil
		}
		return n, err
	}
}

func (s *messageStream) Write(from []byte) (int, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.pings {
		if err := s.WriteControl(websocket.PingMessage, []byte("are you there"), time.Now().Add(10*time.Second)); err != nil {
			return 0, err
		}
	}
	kind := websocket.BinaryMessage
	if s.text {
		kind = websocket.TextMessage
	}
	if err := s.WriteMessage(kind, from); err != nil {
		return 0, err
	}
	return len(from), nil
}

func (s *messageStream) SetDeadline(t time.Time) error {
	if err := s.SetReadDeadline(t); err != nil {
		return err
	}
	return s.SetWriteDeadline(t)
}

// dialOptions say how a client reaches its server.
type dialOptions struct {
	server  string
	native  bool // plain SSH on the port instead of a WebSocket
	host    string
	headers repeated
	limit   int64
	text    bool
	pings   bool
}

// normalizedURL applies section 2.1: no scheme means http, and the default port is visible in Host.
func normalizedURL(server string) (*url.URL, error) {
	if !strings.HasPrefix(server, "http") {
		server = "http://" + server
	}
	u, err := url.Parse(server)
	if err != nil {
		return nil, err
	}
	if u.Port() == "" {
		if u.Scheme == "https" {
			u.Host += ":443"
		} else {
			u.Host += ":80"
		}
	}
	u.Scheme = strings.Replace(u.Scheme, "http", "ws", 1)
	return u, nil
}

func (o dialOptions) dial() (net.Conn, error) {
	u, err := normalizedURL(o.server)
	if err != nil {
		return nil, err
	}
	if o.native {
		return net.DialTimeout("tcp", u.Host, 45*time.Second)
	}
	headers := http.Header{}
	if o.host != "" {
		headers.Set("Host", o.host)
	}
	for _, line := range o.headers {
		if at := strings.IndexByte(line, ':'); at > 0 {
			headers.Set(strings.TrimSpace(line[:at]), strings.TrimSpace(line[at+1:]))
		}
	}
	dialer := websocket.Dialer{HandshakeTimeout: 45 * time.Second, Subprotocols: []string{chiselProtocol}}
	ws, response, err := dialer.Dial(u.String(), headers)
	if err != nil {
		if response != nil {
			return nil, &statusError{err, response.StatusCode}
		}
		return nil, err
	}
	if o.limit > 0 {
		ws.SetReadLimit(o.limit)
	}
	return &messageStream{Conn: ws, text: o.text, pings: o.pings}, nil
}

type statusError struct {
	error
	status int
}

func (e *statusError) Error() string { return e.error.Error() + ", status " + strconv.Itoa(e.status) }

// frameStream writes WebSocket frames itself, so that a script can break any of their rules.
type frameStream struct {
	net.Conn
	client  bool // masks what it sends
	unread  []byte
	reader  io.Reader
	control func(opcode byte, payload []byte)
	lock    sync.Mutex
	messageRules
}

func (s *frameStream) Read(into []byte) (int, error) {
	for len(s.unread) == 0 {
		opcode, payload, err := s.readFrame()
		if err != nil {
			return 0, err
		}
		if opcode >= 8 {
			s.control(opcode, payload)
			continue
		}
		s.unread = payload
	}
	n := copy(into, s.unread)
	s.unread = s.unread[n:]
	return n, nil
}

// readFrame reads one frame and checks the masking rule of section 3.1: a violation by the peer is an error of its own.
func (s *frameStream) readFrame() (byte, []byte, error) {
	var head [14]byte
	if _, err := io.ReadFull(s.reader, head[:2]); err != nil {
		return 0, nil, err
	}
	masked := head[1]&0x80 != 0
	if masked == s.client {
		return 0, nil, errText("VIOLATION: mask bit of the peer's frame is wrong")
	}
	if head[0]&0x70 != 0 {
		return 0, nil, errText("VIOLATION: RSV bits in the peer's frame")
	}
	length := uint64(head[1] & 0x7f)
	switch length {
	case 126:
		if _, err := io.ReadFull(s.reader, head[2:4]); err != nil {
			return 0, nil, err
		}
		length = uint64(binary.BigEndian.Uint16(head[2:4]))
	case 127:
		if _, err := io.ReadFull(s.reader, head[2:10]); err != nil {
			return 0, nil, err
		}
		length = binary.BigEndian.Uint64(head[2:10])
	}
	if head[0]&0x0f < 8 {
		if err := s.frame(head[0]&0x0f != 0, head[0]&0x80 != 0, length); err != nil {
			return 0, nil, err
		}
	}
	var mask [4]byte
	if masked {
		if _, err := io.ReadFull(s.reader, mask[:]); err != nil {
			return 0, nil, err
		}
	}
	payload := make([]byte, length)
	if _, err := io.ReadFull(s.reader, payload); err != nil {
		return 0, nil, err
	}
	if masked && mask != [4]byte{} {
		for i := range payload {
			payload[i] ^= mask[i&3]
		}
	}
	return head[0] & 0x0f, payload, nil
}

func (s *frameStream) Write(from []byte) (int, error) {
	if err := s.writeFrame(0x82, s.client, from); err != nil {
		return 0, err
	}
	return len(from), nil
}

// writeFrame takes the first header byte as it is (FIN, RSV and opcode) and the mask decision from the caller.
func (s *frameStream) writeFrame(first byte, masked bool, payload []byte) error {
	s.lock.Lock()
	defer s.lock.Unlock()
	frame := make([]byte, 0, len(payload)+14)
	frame = append(frame, first)
	bit := byte(0)
	if masked {
		bit = 0x80
	}
	switch n := len(payload); {
	case n < 126:
		frame = append(frame, bit|byte(n))
	case n < 65536:
		frame = append(frame, bit|126, byte(n>>8), byte(n))
	default:
		frame = append(frame, bit|127)
		frame = append(frame, make([]byte, 8)...)
		binary.BigEndian.PutUint64(frame[len(frame)-8:], uint64(n))
	}
	if masked {
		var mask [4]byte
		rand.Read(mask[:])
		frame = append(frame, mask[:]...)
		for i, b := range payload {
			frame = append(frame, b^mask[i&3])
		}
	} else {
		frame = append(frame, payload...)
	}
	_, err := s.Conn.Write(frame)
	return err
}

type errText string

func (e errText) Error() string { return string(e) }
