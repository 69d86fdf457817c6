// The version and key exchange of the transport in transport.go (docs/wire.md sections 4.1 to 4.4): lists, curve25519,
// host key, derived keys, EXT_INFO, rekeying.
package main

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"golang.org/x/crypto/curve25519"
	"golang.org/x/crypto/ssh"
)

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
		info.RightGuess = follows && rightGuess
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
