// The known content that load moves, written and checked.
package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync/atomic"
)

// The content: 64 KiB blocks cut from one random table at places that follow from seed and block number, so that a lost,
// repeated or moved block differs, and neither side computes more than a comparison.
const (
	tableBytes   = 4 << 20
	patternBlock = 64 << 10
)

var table = func() []byte {
	t := make([]byte, tableBytes+patternBlock)
	for i := 0; i < len(t); i += 8 {
		binary.LittleEndian.PutUint64(t[i:], mix(uint64(i)))
	}
	return t
}()

func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// patternAt returns what stands at a position, up to the end of its block.
func patternAt(seed, position uint64) []byte {
	at := mix(seed^mix(position/patternBlock)) % tableBytes
	within := position % patternBlock
	return table[at+within : at+patternBlock]
}

var errMismatch = errors.New("content differs")

func checkPattern(seed, position uint64, got []byte) error {
	for len(got) > 0 {
		want := patternAt(seed, position)
		if len(want) > len(got) {
			want = want[:len(got)]
		}
		if !bytes.Equal(want, got[:len(want)]) {
			return errMismatch
		}
		got, position = got[len(want):], position+uint64(len(want))
	}
	return nil
}

func sendPattern(to net.Conn, seed, count uint64, moved *uint64) error {
	for position := uint64(0); position < count; {
		piece := patternAt(seed, position)
		if uint64(len(piece)) > count-position {
			piece = piece[:count-position]
		}
		n, err := to.Write(piece)
		position += uint64(n)
		if moved != nil {
			atomic.AddUint64(moved, uint64(n))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// receivePattern reads count bytes, or up to the end when count is unlimited.
func receivePattern(from net.Conn, seed, count uint64, buffer []byte, moved *uint64) (uint64, error) {
	position := uint64(0)
	for position < count {
		piece := buffer
		if uint64(len(piece)) > count-position {
			piece = piece[:count-position]
		}
		n, err := from.Read(piece)
		if wrong := checkPattern(seed, position, piece[:n]); wrong != nil {
			return position, wrong
		}
		position += uint64(n)
		if moved != nil {
			atomic.AddUint64(moved, uint64(n))
		}
		if err == io.EOF && count == unlimited {
			return position, nil
		}
		if err != nil {
			return position, err
		}
	}
	return position, nil
}
