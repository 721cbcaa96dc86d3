package policy_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
	"github.com/coatcheck-go/session/policy"
)

const day = 24 * time.Hour

// mustConfig returns the configuration that session.New makes of cfg.
func mustConfig(t *testing.T, cfg session.Config) session.Config {
	t.Helper()
	m, err := session.New(memstore.New(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m.Config()
}

// TestPresetSetsZeroFields checks the fields that the application leaves at zero.
func TestPresetSetsZeroFields(t *testing.T) {
	for _, tt := range []struct {
		name           string
		preset         func(*session.Config) error
		idle, lifetime time.Duration
		rotate         time.Duration
		sameSite       http.SameSite
		clears         string
	}{
		{"AAL1", policy.AAL1, 2 * time.Hour, day, 0, http.SameSiteLaxMode, ""},
		{"AAL2", policy.AAL2, time.Hour, day, 0, http.SameSiteLaxMode, ""},
		{"AAL3", policy.AAL3, 15 * time.Minute, 12 * time.Hour, 0, http.SameSiteLaxMode, ""},
		{
			"HighValue", policy.HighValue, 5 * time.Minute, 8 * time.Hour, 15 * time.Minute,
			http.SameSiteStrictMode, "cache cookies storage",
		},
	} {
		c := mustConfig(t, session.Config{Policy: tt.preset})
		if c.IdleTimeout != tt.idle || c.Lifetime != tt.lifetime || c.RotateEvery != tt.rotate ||
			c.Cookie.SameSite != tt.sameSite || strings.Join(c.ClearSiteData, " ") != tt.clears ||
			!c.CSRF || c.Cookie.Insecure || c.Cookie.Persistent || c.MaxRemember != 0 {
			t.Errorf("%s: got %v, want %v", tt.name, c, tt)
		}
	}
}

// TestPresetKeepsAllowedFields checks that a preset does not change what it allows.
func TestPresetKeepsAllowedFields(t *testing.T) {
	c := mustConfig(t, session.Config{Policy: policy.AAL2, Lifetime: 30 * time.Minute})
	if c.Lifetime != 30*time.Minute || c.IdleTimeout != 30*time.Minute {
		t.Errorf("a short Lifetime was changed: %v", c)
	}
	c = mustConfig(t, session.Config{Policy: policy.AAL2, Lifetime: day, IdleTimeout: time.Hour})
	if c.Lifetime != day || c.IdleTimeout != time.Hour {
		t.Errorf("limits equal to those of AAL2 were changed: %v", c)
	}
	c = mustConfig(t, session.Config{
		Policy: policy.AAL1, Lifetime: 30 * day, IdleTimeout: 30 * day, MaxRemember: 30 * day,
		Cookie: session.Cookie{Persistent: true},
	})
	if c.Lifetime != 30*day || !c.Cookie.Persistent {
		t.Errorf("AAL1 allows 30 days and a persistent cookie, but changed them: %v", c)
	}
	c = mustConfig(t, session.Config{Policy: policy.HighValue, Lifetime: 30 * time.Second})
	if c.RotateEvery != 0 || c.IdleTimeout != 30*time.Second {
		t.Errorf("a session too short to rotate: got %v, want RotateEvery 0 and IdleTimeout 30s", c)
	}
	c = mustConfig(t, session.Config{
		Policy: policy.HighValue, Cookie: session.Cookie{SameSite: http.SameSiteLaxMode}, ClearSiteData: []string{},
	})
	if c.Cookie.SameSite != http.SameSiteLaxMode || len(c.ClearSiteData) != 0 {
		t.Errorf("HighValue allows Lax and an empty ClearSiteData, but changed them: %v", c)
	}
}

// TestPresetRefusesForbiddenFields checks that the error names the field, the preset and the rule.
func TestPresetRefusesForbiddenFields(t *testing.T) {
	insecure, persistent := session.Cookie{Insecure: true}, session.Cookie{Persistent: true}
	crossSite := session.Cookie{SameSite: http.SameSiteNoneMode}
	for _, tt := range []struct {
		field, says string
		cfg         session.Config
	}{
		{"Lifetime", "AAL1 (NIST SP 800-63B-4, 2.1.3)", session.Config{Policy: policy.AAL1, Lifetime: 30*day + 1}},
		{"MaxRemember", "AAL1 (NIST SP 800-63B-4, 2.1.3)", session.Config{Policy: policy.AAL1, MaxRemember: 31 * day}},
		{"Cookie.Insecure", "AAL1 (NIST SP 800-63B-4, 5.1.1)", session.Config{Policy: policy.AAL1, Cookie: insecure}},
		{"Lifetime", "AAL2 (NIST SP 800-63B-4, 2.2.3)", session.Config{Policy: policy.AAL2, Lifetime: 30 * time.Hour}},
		{"IdleTimeout", "AAL2 (NIST SP 800-63B-4, 2.2.3)", session.Config{Policy: policy.AAL2, IdleTimeout: 2 * time.Hour}},
		{"MaxRemember", "AAL2 (NIST SP 800-63B-4, 5.1)", session.Config{Policy: policy.AAL2, MaxRemember: 30 * day}},
		{"Cookie.Persistent", "AAL2 (NIST SP 800-63B-4, 5.1)", session.Config{Policy: policy.AAL2, Cookie: persistent}},
		{"Cookie.SameSite", "AAL2 (NIST SP 800-63B-4, 5.1.1)", session.Config{Policy: policy.AAL2, Cookie: crossSite}},
		{"Cookie.Insecure", "AAL2 (NIST SP 800-63B-4, 5.1.1)", session.Config{Policy: policy.AAL2, Cookie: insecure}},
		{"Lifetime", "AAL3 (NIST SP 800-63B-4, 2.3.3)", session.Config{Policy: policy.AAL3, Lifetime: 12*time.Hour + 1}},
		{"IdleTimeout", "AAL3 (NIST SP 800-63B-4, 2.3.3)", session.Config{Policy: policy.AAL3, IdleTimeout: 16 * time.Minute}},
		{"Cookie.Persistent", "AAL3", session.Config{Policy: policy.AAL3, Cookie: persistent}},
		{"Cookie.SameSite", "AAL3", session.Config{Policy: policy.AAL3, Cookie: crossSite}},
		{"Cookie.Insecure", "AAL3", session.Config{Policy: policy.AAL3, Cookie: insecure}},
		{"Lifetime", "HighValue (OWASP Session Management Cheat Sheet", session.Config{Policy: policy.HighValue, Lifetime: 9 * time.Hour}},
		{"IdleTimeout", "HighValue", session.Config{Policy: policy.HighValue, IdleTimeout: 6 * time.Minute}},
		{"MaxRemember", "HighValue", session.Config{Policy: policy.HighValue, MaxRemember: day}},
		{"Cookie.Persistent", "HighValue", session.Config{Policy: policy.HighValue, Cookie: persistent}},
		{"Cookie.SameSite", "HighValue", session.Config{Policy: policy.HighValue, Cookie: crossSite}},
		{"Cookie.Insecure", "HighValue", session.Config{Policy: policy.HighValue, Cookie: insecure}},
		{"CSRFExempt", "AAL1 (NIST SP 800-63B-4, 5.1)", session.Config{Policy: policy.AAL1, CSRFExempt: []string{"POST /hook", "/"}}},
		{"CSRFExempt", "AAL2 (NIST SP 800-63B-4, 5.1)", session.Config{Policy: policy.AAL2, CSRFExempt: []string{"POST /{all...}"}}},
		{"CSRFExempt", "AAL2", session.Config{Policy: policy.AAL2, CSRFExempt: []string{"/{$}", "/{a}/{rest...}"}}},
		{"CSRFExempt", "AAL3", session.Config{Policy: policy.AAL3, CSRFExempt: []string{"POST /hooks/{name}", "POST /{a}/"}}},
		{"CSRFExempt", "HighValue", session.Config{Policy: policy.HighValue, CSRFExempt: []string{"POST  shop.example/"}}},
		{"Lifetime", "it must be at least 1ms", session.Config{Policy: policy.AAL2, Lifetime: -1}},
		{"IdleTimeout", "it must be at least 1ms", session.Config{Policy: policy.AAL3, IdleTimeout: -time.Hour}},
	} {
		m, err := session.New(memstore.New(), tt.cfg)
		if err == nil || m != nil {
			t.Errorf("accepted, want an error with %s and %s: %v", tt.field, tt.says, tt.cfg)
			continue
		}
		if got := err.Error(); !strings.HasPrefix(got, "session: Config."+tt.field+" is ") || !strings.Contains(got, tt.says) {
			t.Errorf("got error %v, want it to name %s and %s", err, tt.field, tt.says)
		}
	}
}

// TestPresetsCombine checks that both presets apply when a policy calls the stricter one first.
func TestPresetsCombine(t *testing.T) {
	both := func(c *session.Config) error { return errors.Join(policy.HighValue(c), policy.AAL2(c)) }
	c := mustConfig(t, session.Config{Policy: both})
	if c.IdleTimeout != 5*time.Minute || c.Lifetime != 8*time.Hour || !c.CSRF {
		t.Errorf("got %v, want the limits of HighValue, and CSRF", c)
	}
	if _, err := session.New(memstore.New(), session.Config{Policy: both, Lifetime: 9 * time.Hour}); err == nil {
		t.Error("a lifetime of 9 h was accepted, want the limit of HighValue")
	}
}

// TestSignInCannotBeRemembered checks that a sign-in cannot ask for Remember under a preset that
// does not allow it.
func TestSignInCannotBeRemembered(t *testing.T) {
	m, err := session.New(memstore.New(), session.Config{Policy: policy.AAL2})
	if err != nil {
		t.Fatal(err)
	}
	ctx, err := m.Load(httptest.NewRequest("GET", "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	s, err := session.From(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SignIn(t.Context(), session.Login{User: "ada", Remember: 30 * day}); !errors.Is(err, session.ErrInvalid) {
		t.Errorf("got %v, want ErrInvalid", err)
	}
}
