package storetest

import (
	"reflect"
	"strings"
	"time"

	"github.com/coatcheck-go/session/driver"
)

func principals(k *kit) {
	long := func(n int) string { return strings.Repeat("é", n/2) }
	methods := make([]string, driver.MaxMethods)
	for i := range methods {
		methods[i] = long(driver.MaxMethod)
	}
	k.mustKeepPrincipals(
		driver.Principal{User: "ada"},
		driver.Principal{User: "\x00"},
		driver.Principal{User: "\xff\xfe"},
		driver.Principal{User: "a:b {c} \r\n\" \\ é 😀"},
		driver.Principal{User: strings.Repeat("\xff", driver.MaxUser)},
		driver.Principal{
			User: "ada", Methods: []string{"pwd", "otp"}, Level: 2,
			Device: "Firefox on Linux", UserAgent: "Mozilla/5.0", Address: "2001:db8::1",
		},
		driver.Principal{
			User: "ada", Persistent: true, Methods: []string{"", "a b", "\"\\\x00\u2028<>&"}, Device: "\"at\":0",
		},
		driver.Principal{
			User: "ada", Methods: methods, Level: driver.MaxLevel, Device: long(driver.MaxDevice),
			UserAgent: long(driver.MaxUserAgent), Address: long(driver.MaxAddress),
		},
	)
}

// mustKeepPrincipals signs in as each principal and checks that the store keeps it unchanged.
func (k *kit) mustKeepPrincipals(principals ...driver.Principal) {
	k.Helper()
	for _, p := range principals {
		o := newOwner()
		v := o.visitor()
		in := o.login(v)
		p.Owner = o.hash
		p.Authenticated = time.UnixMilli(1) // the store sets this time
		given := p
		in.Spec.Principal = &given
		k.mustSignIn(v, in)
		if !reflect.DeepEqual(given, p) {
			k.Errorf("the store modified the caller's principal: %+v", given)
		}
		r := k.load(v)
		got := *r.Principal
		if !got.Authenticated.Equal(r.Created) {
			k.Errorf("authenticated at %v, created at %v, want the same time", got.Authenticated, r.Created)
		}
		got.Authenticated = p.Authenticated
		if len(got.Methods) == 0 {
			got.Methods = p.Methods
		}
		if !reflect.DeepEqual(got, p) {
			k.Errorf("the principal is %+v\nwant             %+v", got, p)
		}
		k.apply(v, add("n", 1))
		if after := k.load(v).Principal; !reflect.DeepEqual(after, r.Principal) {
			k.Errorf("the principal after a change is %+v", after)
		}
		k.mustHaveSessions(o, v)
	}
}
