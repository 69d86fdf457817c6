// Host keys: chisel's deterministic key from a seed (docs/wire.md section 6.2), its ck- form (6.3), PEM files, and the
// fingerprints of section 6.4.
package main

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/md5"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"math/big"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"
)

func keyFromSeed(seed string) *ecdsa.PrivateKey {
	next := []byte(seed)
	for i := 0; i < 2048; i++ {
		sum := sha512.Sum512(next)
		next = append([]byte{}, sum[:32]...)
	}
	var stream []byte
	for len(stream) < 40 {
		sum := sha512.Sum512(next)
		stream = append(stream, sum[32:]...)
		next = append([]byte{}, sum[:32]...)
	}
	curve := elliptic.P256()
	one := big.NewInt(1)
	d := new(big.Int).SetBytes(stream[:40])
	d.Mod(d, new(big.Int).Sub(curve.Params().N, one)).Add(d, one)
	key := &ecdsa.PrivateKey{D: d}
	key.Curve = curve
	key.X, key.Y = curve.ScalarBaseMult(d.Bytes())
	return key
}

const ckPrefix = "ck-"

func encodeCk(key *ecdsa.PrivateKey) string {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		panic(err)
	}
	return ckPrefix + base64.RawStdEncoding.EncodeToString(der)
}

func decodeCk(text string) (*ecdsa.PrivateKey, error) {
	der, err := base64.RawStdEncoding.DecodeString(strings.TrimSpace(strings.TrimPrefix(text, ckPrefix)))
	if err != nil {
		return nil, err
	}
	return x509.ParseECPrivateKey(der)
}

// keyOptions are the flags that choose a host key.
type keyOptions struct {
	seed, kind, file string
}

// signer prefers a file (or an inline ck- key), then a seed, then a fresh key of the kind asked for.
func (o keyOptions) signer() (ssh.Signer, error) {
	switch {
	case strings.HasPrefix(o.file, ckPrefix):
		key, err := decodeCk(o.file)
		if err != nil {
			return nil, err
		}
		return ssh.NewSignerFromKey(key)
	case o.file != "":
		text, err := os.ReadFile(o.file)
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(string(text), ckPrefix) {
			key, err := decodeCk(string(text))
			if err != nil {
				return nil, err
			}
			return ssh.NewSignerFromKey(key)
		}
		return ssh.ParsePrivateKey(text)
	case o.seed != "":
		return ssh.NewSignerFromKey(keyFromSeed(o.seed))
	}
	switch o.kind {
	case "", "ecdsa":
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		return ssh.NewSignerFromKey(key)
	case "ed25519":
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		return ssh.NewSignerFromKey(key)
	case "rsa":
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return nil, err
		}
		return ssh.NewSignerFromKey(key)
	}
	return nil, fmt.Errorf("unknown key type %q: ecdsa, ed25519 or rsa", o.kind)
}

func fingerprintSHA256(blob []byte) string {
	sum := sha256.Sum256(blob)
	return base64.StdEncoding.EncodeToString(sum[:])
}

func fingerprintMD5(blob []byte) string {
	sum := md5.Sum(blob)
	pairs := make([]string, len(sum))
	for i, b := range sum {
		pairs[i] = fmt.Sprintf("%02x", b)
	}
	return strings.Join(pairs, ":")
}

// runKey prints what a seed, a ck- key or a key file amounts to: "sha256 md5 ck".
func runKey(arguments []string) error {
	var options keyOptions
	flags := newFlags("key")
	flags.StringVar(&options.seed, "key-seed", "", "chisel's --key")
	flags.StringVar(&options.file, "key-file", "", "ck- key, or a file with one, or PEM")
	flags.Parse(arguments)
	signer, err := options.signer()
	if err != nil {
		return err
	}
	blob := signer.PublicKey().Marshal()
	ck := "-"
	if options.seed != "" && options.file == "" {
		ck = encodeCk(keyFromSeed(options.seed))
	}
	fmt.Println(fingerprintSHA256(blob), fingerprintMD5(blob), ck)
	return nil
}
