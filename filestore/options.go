package filestore

import (
	"fmt"
	"time"
)

// Options say how a store writes. The zero Options write every change before it is acknowledged.
type Options struct {
	// Durability says when a change is acknowledged. Default: Always.
	Durability Durability

	// Every is how long a change that nobody waits for may be only in memory: with Interval any change, with Always a touch.
	// Default: 1 s. From 1 ms to 1 h.
	Every time.Duration
}

// Durability says when a change is acknowledged.
type Durability uint8

const (
	Always   Durability = iota // when it is on the disk
	Interval                   // at once; it is on the disk within Options.Every
)

var durabilities = [...]string{Always: "always", Interval: "interval"}

// String returns "always" or "interval".
func (d Durability) String() string {
	if int(d) < len(durabilities) {
		return durabilities[d]
	}
	return fmt.Sprintf("durability(%d)", uint8(d))
}

func (o Options) checked() (Options, error) {
	if int(o.Durability) >= len(durabilities) {
		return o, fmt.Errorf("filestore: Options.Durability: %v is neither Always nor Interval", o.Durability)
	}
	if o.Every == 0 {
		o.Every = time.Second
	}
	if o.Every < time.Millisecond || o.Every > time.Hour {
		return o, fmt.Errorf("filestore: Options.Every: %v is not from 1ms to 1h", o.Every)
	}
	return o, nil
}
