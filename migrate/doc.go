// Package migrate moves sessions of other libraries to Coatcheck while both programs' visitors
// browse: nobody is signed out.
//
// A [Migration] stands inside session.Manager.Handler. If a visitor has no session but the cookie
// of the old library, it reads the old session from a [Source], lets [Options].Move copy the values
// into fields, and continues the session under Coatcheck's cookie. Then it ends the old session.
//
// Sources: [SCS] for alexedwards/scs; [Gorilla] for gorilla/sessions and gin-contrib/sessions, with
// a Redis store or in cookies; [Fiber] for the session middleware of gofiber/fiber v3. Write a
// Source for any other library.
//
// docs/migration.md has the deployment, step by step.
package migrate
