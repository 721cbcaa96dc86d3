package filestore

import (
	"fmt"
	"time"
)

// Options say when a store writes. With the zero Options, every change is written before it is
// acknowledged.
type Options struct {
	// Durability says when a change is acknowledged. Default: Always.
	Durability Durability

	// Every is how long a change may be only in memory if no caller waits for it: any change with
	// Interval, a touch with Always. From 1ms to 1h. Default: 1s.
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
		return o, fmt.Errorf("filestore: Options.Durability: %v is not Always or Interval", o.Durability)
	}
	if o.Every == 0 {
		o.Every = time.Second
	}
	if o.Every < time.Millisecond || o.Every > time.Hour {
		return o, fmt.Errorf("filestore: Options.Every: %v is not between 1ms and 1h", o.Every)
	}
	return o, nil
}
