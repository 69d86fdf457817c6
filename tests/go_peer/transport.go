// An SSH transport of our own, apart from x/crypto: it shows and sends every packet, so that a script can look at what
// the library hides and break what the library keeps. curve25519 key exchange, AES-GCM, strict key exchange, EXT_INFO
// (docs/wire.md section 4).
package main

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"sync"

	"golang.org/x/crypto/curve25519"
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

func nameList(list []string) []byte {
	return ssh.Marshal(struct{ List string }{strings.Join(list, ",")})
}

func (t *transport) kexInit(first bool) []byte {
	kex := append([]string{}, t.kex...)
	if first {
		if t.extInfo && !t.server {
			kex = append(kex, "ext-info-c")
		}
		if t.strict && t.server {
			kex = append(kex, "kex-strict-s-v00@openssh.com")
		} else if t.strict {
			kex = append(kex, "kex-strict-c-v00@openssh.com")
		}
	}
	hostKeys := t.hostKeys
	if t.server {
		hostKeys = []string{t.signer.PublicKey().Type()}
	}
	payload := make([]byte, 17)
	payload[0] = msgKexInit
	rand.Read(payload[1:])
	macs := []string{"hmac-sha2-256"}
	for _, list := range [][]string{kex, hostKeys, t.ciphers, t.ciphers, macs, macs, {"none"}, {"none"}, {}, {}} {
		payload = append(payload, nameList(list)...)
	}
	follows := byte(0)
	if t.guess && first {
		follows = 1
	}
	return append(payload, follows, 0, 0, 0, 0)
}

var listNames = []string{"kex", "host_key", "cipher_c2s", "cipher_s2c", "mac_c2s", "mac_s2c", "compression_c2s",
	"compression_s2c", "language_c2s", "language_s2c"}

func parseKexInit(payload []byte) (map[string][]string, bool, error) {
	if len(payload) < 22 || payload[0] != msgKexInit {
		return nil, false, fmt.Errorf("VIOLATION: expected KEXINIT, got %d bytes, message %d", len(payload), payload[0])
	}
	rest := payload[17:]
	lists := map[string][]string{}
	for _, name := range listNames {
		if len(rest) < 4 || uint64(binary.BigEndian.Uint32(rest)) > uint64(len(rest)-4) {
			return nil, false, errors.New("VIOLATION: KEXINIT is cut off")
		}
		n := binary.BigEndian.Uint32(rest)
		lists[name] = []string{}
		if n > 0 {
			lists[name] = strings.Split(string(rest[4:4+n]), ",")
		}
		rest = rest[4+n:]
	}
	if len(rest) != 5 {
		return nil, false, errors.New("VIOLATION: KEXINIT has a wrong length")
	}
	return lists, rest[0] != 0, nil
}

func choose(client, server []string) (string, error) {
	for _, name := range client {
		for _, other := range server {
			if name == other {
				return name, nil
			}
		}
	}
	return "", fmt.Errorf("no common algorithm: client %v, server %v", client, server)
}

func contains(list []string, name string) bool {
	for _, each := range list {
		if each == name {
			return true
		}
	}
	return false
}

var errStopped = errors.New("stopped as asked")

// handshake runs the version exchange and the first key exchange.
func (t *transport) handshake() error {
	t.ourVersion = t.version
	t.ourInit = t.kexInit(true)
	t.lock.Lock()
	t.exchanging = true
	t.lock.Unlock()
	first := []byte(t.version + "\r\n")
	if t.stopAfter == "version" {
		if _, err := t.stream.Write(first); err != nil {
			return err
		}
		return errStopped
	}
	if t.injects("before-kexinit") {
		first = append(first, t.sealLocked(append([]byte{msgIgnore}, nameList(nil)...), intact)...)
	}
	first = append(first, t.sealLocked(t.ourInit, intact)...)
	var secret [32]byte
	if t.guess && !t.server {
		rand.Read(secret[:])
		public, _ := curve25519.X25519(secret[:], curve25519.Basepoint)
		first = append(first, t.sealLocked(ssh.Marshal(ecdhInit{public}), intact)...)
	}
	if _, err := t.stream.Write(first); err != nil {
		return err
	}
	if t.stopAfter == "kexinit" {
		return errStopped
	}
	var err error
	if t.peerVersion, err = t.readVersion(); err != nil {
		return err
	}
	t.info.PeerVersion = t.peerVersion
	if t.peerInit, err = t.readPacket(); err != nil {
		return err
	}
	return t.exchange(true, secret)
}

type ecdhInit struct {
	Public []byte `sshtype:"30"`
}

type ecdhReply struct {
	HostKey   []byte `sshtype:"31"`
	Public    []byte
	Signature []byte
}

// exchange goes on from two KEXINITs to new keys in both directions.
func (t *transport) exchange(first bool, guessed [32]byte) error {
	lists, follows, err := parseKexInit(t.peerInit)
	if err != nil {
		return err
	}
	ours, _, _ := parseKexInit(t.ourInit)
	client, server := ours, lists
	if t.server {
		client, server = lists, ours
	}
	info := &t.info
	info.PeerLists, info.PeerFollows = lists, follows
	if info.Kex, err = choose(client["kex"], server["kex"]); err != nil {
		return err
	}
	if info.HostKey, err = choose(client["host_key"], server["host_key"]); err != nil {
		return err
	}
	up, err := choose(client["cipher_c2s"], server["cipher_c2s"])
	if err != nil {
		return err
	}
	down, err := choose(client["cipher_s2c"], server["cipher_s2c"])
	if err != nil {
		return err
	}
	if _, err = choose(client["compression_c2s"], server["compression_c2s"]); err != nil {
		return err
	}
	if first {
		mark := "kex-strict-c-v00@openssh.com"
		if !t.server {
			mark = "kex-strict-s-v00@openssh.com"
		}
		t.strictOn = t.strict && contains(lists["kex"], mark)
		t.peerWantsExtInfo = contains(lists["kex"], "ext-info-c")
		info.Strict = t.strictOn
	}
	rightGuess := client["kex"][0] == server["kex"][0] && client["host_key"][0] == server["host_key"][0]
	var h, secretMpint []byte
	if t.server {
		if follows && !rightGuess {
			if _, err := t.readPacket(); err != nil {
				return err
			}
		}
		h, secretMpint, err = t.exchangeAsServer()
	} else {
		h, secretMpint, err = t.exchangeAsClient(guessed, t.guess && first && rightGuess)
	}
	if err != nil {
		return err
	}
	if t.sessionID == nil {
		t.sessionID = h
		info.SessionID = h
	}
	info.Rekeyed = !first

	outLetters, inLetters := "AC", "BD"
	info.CipherOut, info.CipherIn = up, down
	if t.server {
		outLetters, inLetters = inLetters, outLetters
		info.CipherOut, info.CipherIn = down, up
	}
	var ahead []byte
	t.lock.Lock()
	ahead = append(ahead, t.sealLocked([]byte{msgNewKeys}, intact)...)
	t.rekeyDirection(&t.out, info.CipherOut, outLetters, secretMpint, h)
	if t.server && first && t.extInfo && t.peerWantsExtInfo {
		ahead = append(ahead, t.sealLocked(t.extInfoPacket(), intact)...)
	}
	t.exchanging = false
	_, err = t.stream.Write(ahead)
	t.lock.Unlock()
	t.idle.Broadcast()
	if err != nil {
		return err
	}
	packet, err := t.readPacket()
	if err != nil {
		return err
	}
	if packet[0] == msgDisconnect {
		return errors.New("disconnect")
	}
	if len(packet) != 1 || packet[0] != msgNewKeys {
		return fmt.Errorf("VIOLATION: expected NEWKEYS, got message %d", packet[0])
	}
	t.rekeyDirection(&t.in, info.CipherIn, inLetters, secretMpint, h)
	return nil
}

func (t *transport) extInfoPacket() []byte {
	entries := [][2]string{{"server-sig-algs", "ssh-ed25519,ecdsa-sha2-nistp256,rsa-sha2-256,rsa-sha2-512"}}
	for _, entry := range t.extraExtInfo {
		at := strings.IndexByte(entry, '=')
		entries = append(entries, [2]string{entry[:at], entry[at+1:]})
	}
	packet := []byte{msgExtInfo, 0, 0, 0, byte(len(entries))}
	for _, entry := range entries {
		packet = append(packet, ssh.Marshal(struct{ Name, Value string }{entry[0], entry[1]})...)
	}
	return packet
}

func (t *transport) rekeyDirection(d *direction, name, letters string, secretMpint, h []byte) {
	size := 16
	if strings.HasPrefix(name, "aes256") {
		size = 32
	}
	derive := func(letter byte) []byte {
		sum := sha256.Sum256(bytes.Join([][]byte{secretMpint, h, {letter}, t.sessionID}, nil))
		return sum[:]
	}
	block, err := aes.NewCipher(derive(letters[1])[:size])
	if err != nil {
		panic(err)
	}
	d.aead, _ = cipher.NewGCM(block)
	d.nonce = derive(letters[0])[:12]
	if t.strictOn {
		d.sequence = 0
	}
}

func (t *transport) hash(clientVersion, serverVersion string, clientInit, serverInit, hostKey, up, down []byte, secret *big.Int) []byte {
	sum := sha256.Sum256(ssh.Marshal(struct {
		VC, VS             string
		IC, IS, KS, QC, QS []byte
		K                  *big.Int
	}{clientVersion, serverVersion, clientInit, serverInit, hostKey, up, down, secret}))
	return sum[:]
}

func (t *transport) exchangeAsClient(secret [32]byte, alreadySent bool) ([]byte, []byte, error) {
	if !alreadySent {
		rand.Read(secret[:])
	}
	public, _ := curve25519.X25519(secret[:], curve25519.Basepoint)
	if !alreadySent {
		var ahead []byte
		t.lock.Lock()
		if t.injects("in-kex") {
			ahead = append(ahead, t.sealLocked(append([]byte{msgIgnore}, nameList(nil)...), intact)...)
		}
		if t.injects("debug-in-kex") {
			ahead = append(ahead, t.sealLocked(append([]byte{msgDebug, 0}, append(nameList(nil), nameList(nil)...)...), intact)...)
		}
		ahead = append(ahead, t.sealLocked(ssh.Marshal(ecdhInit{public}), intact)...)
		t.lock.Unlock()
		if _, err := t.stream.Write(ahead); err != nil {
			return nil, nil, err
		}
	}
	packet, err := t.readPacket()
	if err != nil {
		return nil, nil, err
	}
	var reply ecdhReply
	if err := ssh.Unmarshal(packet, &reply); err != nil {
		return nil, nil, fmt.Errorf("VIOLATION: ECDH_REPLY: %v", err)
	}
	shared, err := curve25519.X25519(secret[:], reply.Public)
	if err != nil {
		return nil, nil, err
	}
	k := new(big.Int).SetBytes(shared)
	h := t.hash(t.ourVersion, t.peerVersion, t.ourInit, t.peerInit, reply.HostKey, public, reply.Public, k)
	key, err := ssh.ParsePublicKey(reply.HostKey)
	if err != nil {
		return nil, nil, fmt.Errorf("VIOLATION: host key: %v", err)
	}
	var signature ssh.Signature
	if err := ssh.Unmarshal(reply.Signature, &signature); err != nil {
		return nil, nil, fmt.Errorf("VIOLATION: signature: %v", err)
	}
	if err := key.Verify(h, &signature); err != nil {
		return nil, nil, fmt.Errorf("VIOLATION: signature: %v", err)
	}
	t.info.Fingerprint, t.info.FingerprintM5 = fingerprintSHA256(reply.HostKey), fingerprintMD5(reply.HostKey)
	return h, ssh.Marshal(struct{ K *big.Int }{k}), nil
}

func (t *transport) exchangeAsServer() ([]byte, []byte, error) {
	packet, err := t.readPacket()
	if err != nil {
		return nil, nil, err
	}
	var init ecdhInit
	if err := ssh.Unmarshal(packet, &init); err != nil {
		return nil, nil, fmt.Errorf("VIOLATION: expected ECDH_INIT, got message %d", packet[0])
	}
	if t.stopAfter == "ecdh" {
		return nil, nil, errStopped
	}
	var secret [32]byte
	rand.Read(secret[:])
	public, _ := curve25519.X25519(secret[:], curve25519.Basepoint)
	shared, err := curve25519.X25519(secret[:], init.Public)
	if err != nil {
		return nil, nil, err
	}
	k := new(big.Int).SetBytes(shared)
	hostKey := t.signer.PublicKey().Marshal()
	h := t.hash(t.peerVersion, t.ourVersion, t.peerInit, t.ourInit, hostKey, init.Public, public, k)
	signature, err := t.signer.Sign(rand.Reader, h)
	if err != nil {
		return nil, nil, err
	}
	if t.injects("wrong-signature") {
		signature.Blob[len(signature.Blob)-1] ^= 1
	}
	t.lock.Lock()
	var ahead []byte
	if t.injects("in-kex") {
		ahead = append(ahead, t.sealLocked(append([]byte{msgIgnore}, nameList(nil)...), intact)...)
	}
	ahead = append(ahead, t.sealLocked(ssh.Marshal(ecdhReply{hostKey, public, ssh.Marshal(*signature)}), intact)...)
	t.lock.Unlock()
	if _, err := t.stream.Write(ahead); err != nil {
		return nil, nil, err
	}
	t.info.Fingerprint, t.info.FingerprintM5 = fingerprintSHA256(hostKey), fingerprintMD5(hostKey)
	return h, ssh.Marshal(struct{ K *big.Int }{k}), nil
}

// startRekey sends our KEXINIT; the reader does the rest when the peer's arrives.
func (t *transport) startRekey() error {
	t.lock.Lock()
	defer t.lock.Unlock()
	if t.exchanging {
		return nil
	}
	t.exchanging = true
	t.ourInit = t.kexInit(false)
	return t.writeLocked(t.ourInit, intact)
}

// next returns the next packet that is not part of a key exchange; it reports true when new keys came into force.
func (t *transport) next() ([]byte, bool, error) {
	packet, err := t.readPacket()
	if err != nil || packet[0] != msgKexInit {
		return packet, false, err
	}
	t.peerInit = packet
	if err := t.startRekey(); err != nil {
		return nil, false, err
	}
	return nil, true, t.exchange(false, [32]byte{})
}
