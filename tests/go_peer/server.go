// The server role: HTTP with /health and /version, the upgrade of docs/wire.md section 2.2, SSH inside, the config
// request, then channels that dial.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/crypto/ssh"
)

const peerVersion = "1.12.0"

type serverOptions struct {
	behaviour
	listen, auth  string
	key           keyOptions
	limit         int64
	keepalive     time.Duration
	configTimeout time.Duration
	text, pings   bool
	kex, ciphers  names
	macs          names
	rekey         uint64
	feature       string
	cut           bool
}

func runServer(arguments []string) error {
	o := &serverOptions{}
	port := ""
	host := ""
	flags := newFlags("server")
	flags.StringVar(&port, "port", "8080", "port to listen on; 0 picks one and prints it")
	flags.StringVar(&host, "host", "0.0.0.0", "address to listen on")
	flags.StringVar(&o.auth, "auth", "", "user:pass")
	flags.StringVar(&o.key.seed, "key-seed", "", "deterministic host key")
	flags.StringVar(&o.key.kind, "key-type", "", "ecdsa, ed25519 or rsa")
	flags.StringVar(&o.key.file, "key-file", "", "ck- key, file with one, or PEM")
	flags.BoolVar(&o.noEOF, "no-eof", false, "as chisel 1.11: never EOF, one end closes both")
	flags.BoolVar(&o.confirmBeforeDial, "confirm-before-dial", false, "as chisel 1.11")
	flags.BoolVar(&o.udpFragile, "udp-fragile", false, "as chisel 1.11: a refused datagram ends its channel")
	flags.BoolVar(&o.udpRefused, "no-udp", false, "reject UDP channels")
	flags.BoolVar(&o.udpRecord, "udp-record", false, "print the octets of UDP channels")
	flags.DurationVar(&o.dialTimeout, "dial-timeout", 30*time.Second, "TCP dial")
	flags.DurationVar(&o.keepalive, "keepalive", 25*time.Second, "ping interval, 0 = off")
	flags.DurationVar(&o.configTimeout, "config-timeout", 10*time.Second, "time to the config request")
	flags.Int64Var(&o.limit, "message-limit", 0, "largest WebSocket message accepted (1.12: 524288)")
	flags.BoolVar(&o.text, "text", false, "send text messages")
	flags.BoolVar(&o.pings, "pings", false, "send a WebSocket ping before every message")
	flags.Var(&o.kex, "kex", "key exchanges")
	flags.Var(&o.ciphers, "ciphers", "ciphers")
	flags.Var(&o.macs, "macs", "MACs")
	flags.Uint64Var(&o.rekey, "rekey-bytes", 0, "rekey threshold")
	flags.StringVar(&o.feature, "header", "", "one extra header of the 101, Name: value")
	flags.BoolVar(&o.cut, "cut", false, "cut every session off as soon as it is up")
	flags.BoolVar(&o.verbose, "v", false, "log channels")
	flags.Parse(arguments)
	exitWithStdin()

	signer, err := o.key.signer()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return err
	}
	fmt.Printf("listening %s fingerprint %s\n", listener.Addr(), fingerprintSHA256(signer.PublicKey().Marshal()))
	return http.Serve(listener, o.handler(signer))
}

func (o *serverOptions) handler(signer ssh.Signer) http.Handler {
	upgrader := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.ToLower(r.Header.Get("Upgrade")) == "websocket" {
			if r.Header.Get("Sec-WebSocket-Protocol") == chiselProtocol {
				var headers http.Header
				if at := strings.IndexByte(o.feature, ':'); at > 0 {
					headers = http.Header{o.feature[:at]: {strings.TrimSpace(o.feature[at+1:])}}
				}
				ws, err := upgrader.Upgrade(w, r, headers)
				if err != nil {
					log.Printf("upgrade: %v", err)
					return
				}
				if o.limit > 0 {
					ws.SetReadLimit(o.limit)
				}
				if err := o.session(&messageStream{Conn: ws, text: o.text, pings: o.pings}, signer); err != nil {
					log.Printf("session of %s: %v", r.RemoteAddr, err)
				}
				return
			}
			log.Printf("ignored client connection using protocol '%s', expected '%s'", r.Header.Get("Sec-WebSocket-Protocol"), chiselProtocol)
		}
		switch r.URL.Path {
		case "/health":
			io.WriteString(w, "OK\n")
		case "/version":
			io.WriteString(w, peerVersion)
		default:
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, "Not found")
		}
	})
}

func (o *serverOptions) session(stream net.Conn, signer ssh.Signer) error {
	defer stream.Close()
	sshConfig := &ssh.ServerConfig{
		ServerVersion: "SSH-chisel-v3-server",
		PasswordCallback: func(meta ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
			if o.auth != "" && meta.User()+":"+string(password) != o.auth {
				log.Printf("Login failed for user: %s", meta.User())
				return nil, errors.New("invalid authentication")
			}
			return nil, nil
		},
	}
	sshConfig.KeyExchanges, sshConfig.Ciphers, sshConfig.MACs = o.kex, o.ciphers, o.macs
	sshConfig.RekeyThreshold = o.rekey
	sshConfig.AddHostKey(signer)
	conn, channels, requests, err := ssh.NewServerConn(stream, sshConfig)
	if err != nil {
		return err
	}
	defer conn.Close()
	log.Printf("client version %s", conn.ClientVersion())
	var first *ssh.Request
	select {
	case first = <-requests:
	case <-time.After(o.configTimeout):
		return errors.New("timeout waiting for configuration")
	}
	if first == nil {
		return errors.New("closed before the config request")
	}
	if first.Type != "config" {
		first.Reply(false, []byte("server: expecting config request"))
		return errors.New("expecting config request, got " + first.Type)
	}
	log.Printf("config %s", first.Payload)
	var declared config
	if err := json.Unmarshal(first.Payload, &declared); err != nil {
		first.Reply(false, []byte("server: invalid config"))
		return err
	}
	for _, r := range declared.Remotes {
		if r.Reverse {
			first.Reply(false, []byte("server: Reverse port forwarding not enabled on server"))
			return errors.New("reverse refused")
		}
	}
	first.Reply(true, nil)
	if o.cut {
		return errors.New("cut off as asked")
	}
	go answerRequests(requests)
	go keepalive(conn, o.keepalive, o.keepalive)
	o.serveChannels(channels)
	err = conn.Wait()
	log.Printf("session over: %v", err)
	return nil
}
