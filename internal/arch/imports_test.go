package arch_test

import (
	"slices"
	"strings"
	"testing"
)

// What a package may import, in the words of a rule: a path in the repository (with "/..." also what lies below), a module
// from outside, or one of these.
const (
	std     = "the standard library"
	outside = "any module from outside"
	public  = "all of this repository that is not internal to the root module"
	itself  = "what lies below"
)

type rule struct {
	packages string
	may      []string
	why      string
}

// rules say what packages may import, tests apart. The first whose pattern fits holds. The arrow points one way: session knows
// driver, stores know driver, adapters and commands know session; nothing points back.
var rules = []rule{
	{".", []string{std, "driver", "internal/ticket"}, "an application that imports session inherits no module, and no store that it does not use"},
	{"driver", []string{std}, "authors of stores depend on it alone, so it depends on nothing"},
	{"format", []string{std, "driver"}, "the format is what driver encodes, whatever stores it"},
	{"internal/arch", []string{std}, "it looks at the repository from outside"},
	{"internal/ticket", []string{std, "driver"}, "tokens and sealed values are pure: they depend on keys and on the contract's types alone"},
	{"internal/...", []string{std, "driver", "internal/..."}, "stores are built on it, so it knows their contract and no store"},
	{"memstore", []string{std, "driver", "internal/..."}, "a store knows the contract, not who uses it: it serves any front"},
	{"filestore", []string{std, "driver", "internal/...", "go.etcd.io/bbolt/...", "golang.org/x/sys/..."},
		"as memstore; the embedded database is its own, and no one else's"},
	{"redisstore", []string{std, "driver", "github.com/redis/rueidis/..."}, "as memstore; the Redis client is its own"},
	{"policy", []string{std, "."}, "a preset is a function of a Config, and knows nothing else"},
	{"redisstore/redistest", []string{std}, "it tests the store and the client, so it speaks to servers by itself"},
	{"compat/...", []string{std, "driver", "internal/...", "compat/...", "github.com/redis/rueidis/..."},
		"a store in another framework's format is a store like the others"},
	{"storetest", []string{std, "driver"}, "authors of stores import it in their tests: it is the contract, and knows no implementation"},
	{"sessiontest", []string{std, ".", "driver", "memstore"}, "it helps applications test, with sessions in memory"},
	{"adapters/...", []string{std, outside, ".", itself}, "an adapter joins session and one framework; the store is the application's choice"},
	{"coatcheck/...", []string{std, outside, public}, "a command is a user of the library: what it needs must be exported for others, too"},
	{"bench/...", []string{std, outside, public}, "what is measured is what users get"},
	{"clients/...", []string{std, outside, public}, "programs that try clients in other languages are users of the library"},
	{"deploy/...", []string{std, outside, public}, "examples are users of the library"},
}

func TestImports(t *testing.T) {
	repo := load(t)
	for _, s := range repo.sources {
		i := slices.IndexFunc(rules, func(r rule) bool { return fits(s.dir, r.packages) })
		if i < 0 {
			t.Errorf("%s: no rule says what package %q may import: add one, with its reason, to rules in internal/arch", s.path, s.dir)
			continue
		}
		if s.test {
			continue
		}
		for _, name := range s.imports() {
			if !slices.ContainsFunc(rules[i].may, func(allowed string) bool { return repo.allows(allowed, name, s) }) {
				t.Errorf("%s imports %q: package %q may import only %q, because %s", s.path, name, s.dir, rules[i].may, rules[i].why)
			}
		}
	}
}

// fits reports whether a path is what a pattern says.
func fits(name, pattern string) bool {
	folder, below := strings.CutSuffix(pattern, "/...")
	return name == folder || below && strings.HasPrefix(name, folder+"/")
}

func (repo *tree) allows(allowed, name string, s *source) bool {
	first, _, _ := strings.Cut(name, "/")
	ours := repo.packages[name] != nil
	switch allowed {
	case std:
		return !ours && !strings.Contains(first, ".")
	case outside:
		return !ours && strings.Contains(first, ".")
	case public:
		return ours && !within(name, "internal")
	case itself:
		return ours && s.module != "." && within(name, s.module)
	}
	return fits(name, allowed)
}

// TestModulesApart covers tests as well. The compiler does not help here: the nested modules' paths begin with the root's, so to it
// they may import its internal packages.
func TestModulesApart(t *testing.T) {
	repo := load(t)
	for _, s := range repo.sources {
		for _, name := range s.imports() {
			switch m := repo.moduleOf(name); {
			case repo.packages[name] == nil:
			case s.module == "." && m != ".":
				t.Errorf("%s imports %q: the root module must not need a nested one, whose dependencies its users would inherit", s.path, name)
			case s.module != "." && within(name, "internal"):
				t.Errorf("%s imports %q: nested modules are released apart, so they use what the root exports", s.path, name)
			}
		}
	}
}
