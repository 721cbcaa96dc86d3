package redisstore

import (
	"bytes"
	"encoding/base64"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// recordVectors are the content of records.json.
type recordVectors struct {
	Records []recordVector  `json:"records"`
	Refused []refusedRecord `json:"refused"`
}

// recordVector is a record and the hash that stores it.
type recordVector struct {
	Name   string            `json:"name"`
	Record recordJSON        `json:"record"`
	Hash   map[string]string `json:"hash"`
}

// refusedRecord is a hash that every reader refuses.
type refusedRecord struct {
	Name string            `json:"name"`
	Why  string            `json:"why"`
	Hash map[string]string `json:"hash"`
}

// recordJSON has null where the record has no such part.
type recordJSON struct {
	Secret     string            `json:"secret"`
	Current    string            `json:"current"`
	Generation uint32            `json:"generation"`
	IssuedMS   int64             `json:"issued_ms"` // 0: at the creation
	Unused     bool              `json:"unused"`    // the current verifier was not used yet
	Previous   *previousJSON     `json:"previous"`
	Overtaken  *overtakenJSON    `json:"overtaken"`
	User       *userJSON         `json:"user"`
	IdleMS     int64             `json:"idle_ms"`
	CreatedMS  int64             `json:"created_ms"`
	SeenMS     int64             `json:"seen_ms"`
	DeadlineMS int64             `json:"deadline_ms"`
	Revision   uint64            `json:"revision"`
	Size       int               `json:"size"`
	Fields     map[string]string `json:"fields"`
}

type previousJSON struct {
	Verifier string `json:"verifier"`
	Accepted bool   `json:"accepted"` // else it is only remembered
	GraceMS  *int64 `json:"grace_ms"` // it begins with the first use of the current verifier
	UntilMS  *int64 `json:"until_ms"`
}

type overtakenJSON struct {
	Generation uint32  `json:"generation"`
	Used       *string `json:"used"`
}

// userJSON has the parts of the info empty if they are sealed.
type userJSON struct {
	ID              string   `json:"id"` // base64url of its bytes
	Owner           string   `json:"owner"`
	AuthenticatedMS int64    `json:"authenticated_ms"`
	Methods         []string `json:"methods"`
	Level           int      `json:"level"`
	Device          string   `json:"device"`
	Agent           string   `json:"agent"`
	Address         string   `json:"address"`
	Persistent      bool     `json:"persistent"`
	Sealed          *string  `json:"sealed"`
}

func TestRecordVectors(t *testing.T) {
	now := time.UnixMilli(vectorNow)
	var want recordVectors
	for _, c := range changeCases {
		if c.before == nil {
			continue
		}
		r := c.before(now)
		if r.Principal != nil || r.Tokens.Previous != (driver.Hash{}) || len(r.Fields) > 1 || c.name == "add above 2^53" {
			want.Records = append(want.Records, recordVector{c.name, recordToJSON(r), encoded(r)})
		}
	}
	want.Refused = refusedRecords(now)
	file := filepath.Join(vectorsDir, "records.json")
	if *update {
		writeJSON(t, file, want)
	}
	var got recordVectors
	readJSON(t, file, &got)
	if !bytes.Equal(toJSON(t, got), toJSON(t, want)) {
		t.Errorf("%s does not match the code: run go test ./redisstore -run Vectors -update", file)
	}
	for _, v := range got.Records {
		r, err := decodeHash(v.Hash)
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		if got, want := toJSON(t, recordToJSON(r)), toJSON(t, v.Record); !bytes.Equal(got, want) {
			t.Errorf("%s: the hash decodes to\n%s\nwant\n%s", v.Name, got, want)
		}
	}
	for _, v := range got.Refused {
		if r, err := decodeHash(v.Hash); err == nil {
			t.Errorf("%s: the hash decodes to %+v", v.Name, r)
		}
	}
}

func encoded(r *driver.Record) map[string]string {
	h := map[string]string{}
	for _, f := range driver.Encode(r) {
		h[string(f.Key)] = string(f.Value)
	}
	return h
}

func recordToJSON(r *driver.Record) recordJSON {
	out := recordJSON{
		Secret: driver.Hash(r.Secret).String(), Current: r.Tokens.Current.String(), Generation: r.Tokens.Generation, Unused: r.Tokens.Unused,
		IdleMS: r.Idle.Milliseconds(), CreatedMS: r.Created.UnixMilli(), SeenMS: r.Seen.UnixMilli(), DeadlineMS: r.Deadline.UnixMilli(),
		Revision: r.Revision, Size: r.Size, Fields: map[string]string{},
	}
	if t := &r.Tokens; t.Previous != (driver.Hash{}) {
		out.Previous = &previousJSON{Verifier: t.Previous.String(), Accepted: t.PreviousAccepted}
		if t.PreviousUntil.IsZero() {
			out.Previous.GraceMS = ptr(t.Grace.Milliseconds())
		} else {
			out.Previous.UntilMS = ptr(t.PreviousUntil.UnixMilli())
		}
	}
	if o := r.Tokens.Overtaken; o != nil {
		out.Overtaken = &overtakenJSON{Generation: o.Generation}
		if o.Used != (driver.Hash{}) {
			out.Overtaken.Used = ptr(o.Used.String())
		}
	}
	if !r.Tokens.Issued.IsZero() {
		out.IssuedMS = r.Tokens.Issued.UnixMilli()
	}
	if p := r.Principal; p != nil {
		out.User = &userJSON{
			ID: base64.RawURLEncoding.EncodeToString([]byte(p.User)), Owner: p.Owner.String(), AuthenticatedMS: p.Authenticated.UnixMilli(),
			Methods: append([]string{}, p.Methods...), Level: p.Level, Device: p.Device, Agent: p.UserAgent, Address: p.Address,
			Persistent: p.Persistent,
		}
		if p.Sealed != "" {
			out.User.Sealed = &p.Sealed
		}
	}
	for _, f := range r.Fields {
		out.Fields[string(f.Key)] = string(f.Value)
	}
	return out
}

// refusedRecords are variations of one record: each has one fault.
func refusedRecords(now time.Time) []refusedRecord {
	var all []refusedRecord
	add := func(name, why string, change func(h map[string]string)) {
		h := encoded(with(signedInRecord, func(r *driver.Record, now time.Time) {
			r.Tokens.Generation, r.Tokens.Issued = 3, now
			r.Tokens.Previous, r.Tokens.PreviousUntil = verifierB, now.Add(time.Minute)
			r.Tokens.Overtaken = &driver.Overtaken{Generation: 2, Used: verifierC}
		})(now))
		change(h)
		all = append(all, refusedRecord{name, why, h})
	}
	replace := func(name string, from, to int, text string) func(map[string]string) {
		return func(h map[string]string) { h[name] = h[name][:from] + text + h[name][to:] }
	}
	for _, name := range []string{"@s", "@l"} {
		add(name+" is missing", "every record has it", func(h map[string]string) { delete(h, name) })
	}
	for _, name := range []string{"@s", "@l", "@previous", "@overtaken", "@u"} {
		add(name+" is too short", "each value has one length", func(h map[string]string) { h[name] = h[name][:len(h[name])-1] })
		add(name+" is too long", "each value has one length", func(h map[string]string) { h[name] += "0" })
		add(name+" is empty", "each value has one length", func(h map[string]string) { h[name] = "" })
	}
	add("another version", "a newer program wrote the record", replace("@s", 0, 1, "2"))
	add("unknown metadata", "a newer program wrote the record", func(h map[string]string) { h["@new"] = "1" })
	add("unknown flag", "a newer program wrote the record", replace("@s", 1, 2, "4"))
	add("unused without a previous verifier", "the current verifier replaced another", func(h map[string]string) {
		replace("@s", 1, 2, "1")(h)
		delete(h, "@previous")
	})
	add("moving without a lease", "the flag says that a sign-in is under way", replace("@s", 1, 2, "2"))
	add("a lease without the flag", "the flag is missing", func(h map[string]string) { h["@moving"] = nameNew + "000000000001" })
	add("upper-case number", "hexadecimal digits are lower-case", replace("@s", 24, 36, "00000000000A"))
	add("signed number", "a number has only digits", replace("@s", 24, 36, "-00000000001"))
	add("number with a prefix", "a number has only digits", replace("@s", 24, 36, "0x0000000001"))
	add("number with a space", "a number has only digits", replace("@s", 24, 36, " 00000000001"))
	add("time out of range", "a time is before the year 10000", replace("@s", 44, 56, "ffffffffffff"))
	add("duration out of range", "a duration has at most 2^63 nanoseconds", replace("@l", 46, 58, "ffffffffffff"))
	add("hash that is not base64url", "the alphabet has no +", replace("@s", 2, 3, "+"))
	add("hash with unused bits", "a hash has exactly one text", replace("@s", 23, 24, "x"))
	add("state of the previous verifier", "it is a or r", replace("@previous", 0, 1, "x"))
	add("generation that is no number", "a number has only digits", replace("@previous", 35, 43, "0000000 "))
	add("issued after the year 9999", "a time is before the year 10000", replace("@previous", 43, 55, "e677d21fdc00"))
	add("no previous hash", "the zero hash stands for none", replace("@previous", 1, 23, strings.Repeat("A", 22)))
	add("level out of range", "a level is at most 99", replace("@u", 34, 36, "64"))
	add("persistent out of range", "it is 0 or 1", replace("@u", 36, 37, "2"))
	add("size is too large", "the size is that of all fields", replace("@s", 36, 44, "00000004"))
	add("size is too small", "the size is that of all fields", replace("@s", 36, 44, "00000001"))
	add("info is missing", "its length is in @u", func(h map[string]string) { delete(h, "@i") })
	add("info is too short", "its length is in @u", func(h map[string]string) { h["@i"] = h["@i"][1:] })
	add("info is too long", "its length is in @u", func(h map[string]string) { h["@i2"] = "x" })
	add("info without a user", "an anonymous session has none", func(h map[string]string) { delete(h, "@u") })
	add("info that is no JSON", "in clear it is JSON", replace("@i", 0, 1, "x"))
	add("name of a field", "a name has only the bytes a-z A-Z 0-9 . _ -", func(h map[string]string) {
		delete(h, "n")
		h["é"] = ""
	})
	add("an ended marker with more", "the marker is the only name", func(h map[string]string) { h["@ended"] = "019ba1e3d800" + zeroHash })
	add("a moved marker with more", "the marker is the only name", func(h map[string]string) { h["@moved"] = "019ba1e3d800" })
	return slices.Clip(all)
}
