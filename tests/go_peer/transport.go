// An SSH transport of our own, apart from x/crypto: it shows and sends every packet, so that a script can look at what
// the library hides and break what the library keeps. curve25519 key exchange, AES-GCM, strict key exchange, EXT_INFO
// (docs/wire.md section 4).
package main

import (
	"bufio"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
)

const (
	msgDisconnect = 1
	msgIgnore     = 2
	msgDebug      = 4
	msgExtInfo    = 7
	msgKexInit    = 20
	msgNewKeys    = 21
	msgECDHInit   = 30
	msgECDHReply  = 31
)

type tampering byte

const (
	intact tampering = iota
	wrongTag
	shortPadding
	hugePadding
	hugeLength
	emptyPayload
)

// direction is one half of the transport: a sequence number and, after NEWKEYS, AES-GCM.
type direction struct {
	sequence uint32
	aead     cipher.AEAD
	nonce    []byte
}

func (d *direction) advance() {
	for i := 11; i >= 4; i-- {
		d.nonce[i]++
		if d.nonce[i] != 0 {
			return
		}
	}
}

type transportOptions struct {
	server       bool
	version      string
	kex, ciphers names
	hostKeys     names
	strict       bool
	extInfo      bool
	extraExtInfo names // name=value entries after server-sig-algs
	inject       names // before-kexinit, in-kex, debug-in-kex, unknown-in-kex
	guess        bool
	stopAfter    string // version, kexinit, ecdh
	signer       ssh.Signer
}

func (o *transportOptions) injects(name string) bool {
	for _, each := range o.inject {
		if each == name {
			return true
		}
	}
	return false
}

// handshakeInfo is what a script wants to know of the peer.
type handshakeInfo struct {
	PeerVersion   string              `json:"peer_version"`
	PeerLists     map[string][]string `json:"peer_lists"`
	PeerFollows   bool                `json:"peer_first_kex_follows"`
	Kex           string              `json:"kex"`
	HostKey       string              `json:"host_key"`
	CipherOut     string              `json:"cipher_out"`
	CipherIn      string              `json:"cipher_in"`
	Strict        bool                `json:"strict"`
	Fingerprint   string              `json:"fingerprint"`
	FingerprintM5 string              `json:"fingerprint_md5"`
	Rekeyed       bool                `json:"rekeyed"`
	RightGuess    bool                `json:"right_guess"` // the ECDH_INIT that the peer sent ahead was used
	SessionID     []byte              `json:"session_id"`
	Request       string              `json:"request,omitempty"`
}

type transport struct {
	transportOptions
	stream                  io.ReadWriter
	reader                  *bufio.Reader
	in, out                 direction
	lock                    sync.Mutex // of out, and of what follows
	idle                    *sync.Cond // signalled when a key exchange is over
	exchanging              bool       // our KEXINIT is out, our NEWKEYS is not
	ourInit, peerInit       []byte
	ourVersion, peerVersion string
	sessionID               []byte
	strictOn                bool
	info                    handshakeInfo
	peerWantsExtInfo        bool
	taken                   uint64             // bytes of the stream read so far
	packetEnd               func(uint64) error // called at the end of each packet; may be nil
}

func newTransport(stream io.ReadWriter, options transportOptions) *transport {
	t := &transport{transportOptions: options, stream: stream, reader: bufio.NewReaderSize(stream, 64*1024)}
	t.idle = sync.NewCond(&t.lock)
	return t
}

func (t *transport) readVersion() (string, error) {
	line, err := t.reader.ReadString('\n')
	if err != nil {
		return "", err
	}
	if len(line) > 255 || !strings.HasPrefix(line, "SSH-") {
		return "", fmt.Errorf("VIOLATION: version line %q", line)
	}
	t.taken += uint64(len(line))
	if !strings.HasSuffix(line, "\r\n") {
		return "", fmt.Errorf("VIOLATION: version line without CR LF: %q", line)
	}
	return strings.TrimRight(line, "\r\n"), nil
}

func (t *transport) readPacket() ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(t.reader, head[:]); err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(head[:])
	if length < 5 || length > 262144 {
		return nil, fmt.Errorf("VIOLATION: packet length %d", length)
	}
	tag := 0
	if t.in.aead != nil {
		tag = 16
		if length%16 != 0 {
			return nil, fmt.Errorf("VIOLATION: packet length %d is no multiple of 16", length)
		}
	} else if (length+4)%8 != 0 {
		return nil, fmt.Errorf("VIOLATION: clear packet of %d bytes is no multiple of 8", length+4)
	}
	body := make([]byte, int(length)+tag)
	if _, err := io.ReadFull(t.reader, body); err != nil {
		return nil, err
	}
	t.taken += uint64(len(head) + len(body))
	if t.packetEnd != nil {
		if err := t.packetEnd(t.taken); err != nil {
			return nil, err
		}
	}
	if t.in.aead != nil {
		plain, err := t.in.aead.Open(body[:0], t.in.nonce, body, head[:])
		if err != nil {
			return nil, fmt.Errorf("VIOLATION: %v", err)
		}
		body = plain
		t.in.advance()
	}
	padding := int(body[0])
	if padding < 4 || padding+1 >= len(body) {
		return nil, fmt.Errorf("VIOLATION: %d bytes of padding in %d", padding, length)
	}
	t.in.sequence++
	payload := body[1 : len(body)-padding]
	if t.exchanging && payload[0] == msgDisconnect {
		return nil, errors.New("disconnect")
	}
	return payload, nil
}

// writeLocked seals one packet, spoiled in the way asked for.
func (t *transport) writeLocked(payload []byte, how tampering) error {
	_, err := t.stream.Write(t.sealLocked(payload, how))
	return err
}

func (t *transport) sealLocked(payload []byte, how tampering) []byte {
	aligned := len(payload) + 1
	if t.out.aead == nil {
		aligned += 4
	}
	padding := 16 - aligned%16
	if padding < 4 {
		padding += 16
	}
	if how == emptyPayload {
		payload, padding = nil, 31
	}
	packet := make([]byte, 5, 5+len(payload)+padding+16)
	packet[4] = byte(padding)
	packet = append(packet, payload...)
	packet = append(packet, make([]byte, padding)...)
	switch how {
	case shortPadding:
		packet[4] = 3
	case hugePadding:
		packet[4] = 255
	}
	length := uint32(len(packet) - 4)
	if how == hugeLength {
		length = 300000
	}
	binary.BigEndian.PutUint32(packet, length)
	if t.out.aead != nil {
		packet = t.out.aead.Seal(packet[:4], t.out.nonce, packet[4:], packet[:4])
		t.out.advance()
	}
	if how == wrongTag {
		packet[len(packet)-1] ^= 1
	}
	t.out.sequence++
	return packet
}

// write waits while a key exchange runs: between our KEXINIT and our NEWKEYS nothing else may go out.
func (t *transport) write(payload []byte, how tampering) error {
	t.lock.Lock()
	defer t.lock.Unlock()
	for t.exchanging {
		t.idle.Wait()
	}
	return t.writeLocked(payload, how)
}
