package redisstore

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/rueidis"
)

// advisedListpackValue is the hash-max-listpack-value that docs/operations.md recommends.
const advisedListpackValue = 1024

// costlySetting is a setting of a server, with what it costs and the command that changes it.
type costlySetting struct{ setting, value, costs, command string }

// costlySettings has the addresses of the servers that have a setting.
type costlySettings map[costlySetting][]string

// add adds the settings of a server. settings is nil if the user must not read them. Then only INFO
// says something.
func (c costlySettings) add(addr, info string, settings map[string]string) {
	found := func(setting, value, costs, command string) {
		key := costlySetting{setting, value, costs, command}
		c[key] = append(c[key], addr)
	}
	limit, err := strconv.Atoi(settings["hash-max-listpack-value"])
	if err == nil && limit < advisedListpackValue {
		found("hash-max-listpack-value", strconv.Itoa(limit),
			fmt.Sprintf("a session with a value of more than %d bytes takes about twice the memory", limit),
			fmt.Sprint("CONFIG SET hash-max-listpack-value ", advisedListpackValue))
	}
	save, known := settings["save"]
	switch enabled := infoValue(info, "aof_enabled"); {
	case enabled == "0" && known && save == "":
		found("appendonly", "no", "a restart of the server signs everybody out", "CONFIG SET appendonly yes")
	case enabled == "0":
		found("appendonly", "no", "a restart of the server may undo sign-outs since its last snapshot",
			"CONFIG SET appendonly yes")
	case enabled == "1" && settings["appendfsync"] == "no":
		found("appendfsync", "no", "a crash of the machine may undo the sign-outs of the last 30 seconds",
			"CONFIG SET appendfsync everysec")
	}
}

// mayReadSettings is a script that returns 1 if the user may read the settings. A CONFIG GET that
// is denied would leave an entry in ACL LOG, which may alarm an operator.
const mayReadSettings = `return redis.acl_check_cmd('CONFIG', 'GET', 'save')`

// readSettings returns settings of a server, or nil if the user must not read them.
func readSettings(ctx context.Context, node rueidis.Client) map[string]string {
	allowed, err := node.Do(ctx, node.B().Eval().Script(mayReadSettings).Numkeys(0).Build()).AsInt64()
	if err != nil || allowed != 1 {
		return nil
	}
	values, err := node.Do(ctx,
		node.B().ConfigGet().Parameter("hash-max-listpack-value", "appendfsync", "save").Build()).AsStrMap()
	if err != nil {
		return nil
	}
	return values
}

// log logs each setting once, also if many servers have it. answered is the number of servers that
// were asked.
func (c costlySettings) log(s *Store, answered int) {
	inOrder := func(a, b costlySetting) int {
		return cmp.Or(strings.Compare(a.setting, b.setting), strings.Compare(a.value, b.value), strings.Compare(a.costs, b.costs))
	}
	for _, found := range slices.SortedFunc(maps.Keys(c), inOrder) {
		addrs := slices.Sorted(slices.Values(c[found]))
		server := strings.Join(addrs, ",")
		if len(addrs) == answered && answered > 1 {
			server = "all"
		}
		s.opt.Logger.Info("redisstore: "+found.costs+": run the command on each server, then CONFIG REWRITE",
			"server", server, "setting", found.setting, "value", found.value, "command", found.command)
	}
}
