// The client role: dials, checks the fingerprint (docs/wire.md section 6.4, as 1.12), logs in, declares its remotes and
// opens a channel for every local connection. It tries again every 200 ms when the session is lost.
package main

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

type clientOptions struct {
	behaviour
	dialOptions
	auth, identity string
	fingerprint    string
	keepalive      time.Duration
	kex, ciphers   names
	macs, hostKeys names
	rekey          uint64
	once           bool
	version        string
	udpEntries     []*udpEntry
}

func runClient(arguments []string) error {
	o := &clientOptions{}
	flags := newFlags("client")
	flags.StringVar(&o.server, "server", "", "URL of the server")
	flags.BoolVar(&o.native, "native", false, "plain SSH to the port (direct-tcpip channels), no WebSocket")
	flags.StringVar(&o.auth, "auth", "", "user:pass")
	flags.StringVar(&o.identity, "identity", "", "private key file for publickey authentication, user from --auth")
	flags.StringVar(&o.fingerprint, "fingerprint", "", "host key fingerprint")
	flags.StringVar(&o.host, "hostname", "", "Host header")
	flags.Var(&o.headers, "header", "Name: value, repeatable")
	flags.DurationVar(&o.keepalive, "keepalive", 25*time.Second, "ping interval, 0 = off")
	flags.Int64Var(&o.limit, "message-limit", 0, "largest WebSocket message accepted (1.12: 524288)")
	flags.BoolVar(&o.text, "text", false, "send text messages")
	flags.BoolVar(&o.pings, "pings", false, "send a WebSocket ping before every message")
	flags.BoolVar(&o.noEOF, "no-eof", false, "as chisel 1.11: never EOF, one end closes both")
	flags.BoolVar(&o.udpRecord, "udp-record", false, "print the octets of UDP channels")
	flags.Var(&o.kex, "kex", "key exchanges")
	flags.Var(&o.ciphers, "ciphers", "ciphers")
	flags.Var(&o.macs, "macs", "MACs")
	flags.Var(&o.hostKeys, "host-key-algorithms", "host key algorithms")
	flags.Uint64Var(&o.rekey, "rekey-bytes", 0, "rekey threshold")
	flags.BoolVar(&o.once, "once", false, "one attempt; exit 0 if the session came up, 1 if not")
	flags.StringVar(&o.version, "version", peerVersion, "version in the config")
	flags.BoolVar(&o.verbose, "v", false, "log channels")
	flags.Parse(arguments)
	exitWithStdin()

	declared := config{Version: o.version}
	box := newSessionBox()
	for _, text := range flags.Args() {
		r, err := parseRemote(text)
		if err != nil {
			return fmt.Errorf("Failed to decode remote '%s': %v", text, err)
		}
		declared.Remotes = append(declared.Remotes, r)
		if r.Reverse {
			continue
		}
		if r.RemoteProto == "udp" {
			entry, err := listenUDP(r)
			if err != nil {
				return err
			}
			o.udpEntries = append(o.udpEntries, entry)
			continue
		}
		listener, err := net.Listen("tcp", r.local())
		if err != nil {
			return err
		}
		fmt.Printf("listening %s\n", listener.Addr())
		target := r
		go o.serveEntry(entry{r, listener}, box, func(conn ssh.Conn) (ssh.Channel, <-chan *ssh.Request, error) {
			if o.native {
				return conn.OpenChannel("direct-tcpip", directTCPIP(target))
			}
			return conn.OpenChannel("chisel", []byte(target.target()))
		})
	}
	for {
		err := o.session(declared, box)
		if o.once {
			return err
		}
		log.Printf("Connection error: %v", err)
		time.Sleep(200 * time.Millisecond)
	}
}

func directTCPIP(r *remote) []byte {
	port, _ := strconv.Atoi(r.RemotePort)
	return ssh.Marshal(struct {
		Host       string
		Port       uint32
		Originator string
		FromPort   uint32
	}{r.RemoteHost, uint32(port), "127.0.0.1", 1})
}

func (o *clientOptions) session(declared config, box *sessionBox) error {
	begin := time.Now()
	stream, err := o.dial()
	if err != nil {
		return err
	}
	defer stream.Close()
	user, password := o.auth, ""
	if at := strings.IndexByte(o.auth, ':'); at >= 0 {
		user, password = o.auth[:at], o.auth[at+1:]
	}
	version := "SSH-chisel-v3-client"
	if o.native {
		version = "SSH-2.0-go_peer"
	}
	sshConfig := &ssh.ClientConfig{
		User:          user,
		ClientVersion: version,
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			fmt.Printf("fingerprint %s %s %s\n", fingerprintSHA256(key.Marshal()), fingerprintMD5(key.Marshal()), key.Type())
			return o.verify(key.Marshal())
		},
		HostKeyAlgorithms: o.hostKeys,
	}
	if o.identity != "" {
		text, err := os.ReadFile(o.identity)
		if err != nil {
			return err
		}
		signer, err := ssh.ParsePrivateKey(text)
		if err != nil {
			return err
		}
		sshConfig.Auth = []ssh.AuthMethod{ssh.PublicKeys(signer)}
	} else {
		sshConfig.Auth = []ssh.AuthMethod{ssh.Password(password)}
	}
	sshConfig.KeyExchanges, sshConfig.Ciphers, sshConfig.MACs = o.kex, o.ciphers, o.macs
	sshConfig.RekeyThreshold = o.rekey
	conn, channels, requests, err := ssh.NewClientConn(stream, "", sshConfig)
	if err != nil {
		return err
	}
	defer conn.Close()
	fmt.Printf("server %s\n", conn.ServerVersion())
	if !o.native {
		_, reply, err := conn.SendRequest("config", true, declared.encode())
		if err != nil {
			return fmt.Errorf("config: %w", err)
		}
		if len(reply) > 0 {
			fmt.Printf("config refused: %s\n", reply)
			return errors.New(string(reply))
		}
		go keepalive(conn, o.keepalive, o.keepalive)
	}
	go answerRequests(requests)
	go refuseChannels(channels)
	log.Printf("client: Connected (Latency %s)", time.Since(begin))
	box.put(conn)
	for _, entry := range o.udpEntries {
		go func(entry *udpEntry) {
			if err := entry.session(&o.behaviour, conn); err != nil {
				fmt.Printf("udp channel rejected: %v\n", err)
				os.Exit(1) // docs/wire.md section 9.1
			}
		}(entry)
	}
	if o.once && len(declared.Remotes) == 0 {
		return nil
	}
	err = conn.Wait()
	box.put(nil)
	log.Printf("client: Disconnected")
	return err
}

// verify wants all of either form; what decodes as base64 is never taken for the MD5 form.
func (o *clientOptions) verify(blob []byte) error {
	if o.fingerprint == "" {
		return nil
	}
	actual := fingerprintSHA256(blob)
	expected := actual
	if _, err := base64.StdEncoding.DecodeString(o.fingerprint); err != nil {
		expected = fingerprintMD5(blob)
	}
	if !bytes.Equal([]byte(o.fingerprint), []byte(expected)) {
		return fmt.Errorf("Invalid fingerprint (%s)", actual)
	}
	return nil
}
