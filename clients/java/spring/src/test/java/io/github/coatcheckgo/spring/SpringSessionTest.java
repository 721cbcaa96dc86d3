package io.github.coatcheckgo.spring;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.coatcheckgo.session.Session;
import io.github.coatcheckgo.session.Sessions;
import io.github.coatcheckgo.session.Value;
import io.github.coatcheckgo.testkit.RedisServer;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.web.server.servlet.context.ServletWebServerApplicationContext;
import org.springframework.context.ConfigurableApplicationContext;
import org.springframework.security.authentication.UsernamePasswordAuthenticationToken;
import org.springframework.security.core.context.SecurityContextImpl;

/** The repository in a real Spring Boot application with Spring Security. */
class SpringSessionTest {
    private static RedisServer redis;
    private static ConfigurableApplicationContext app;
    private static final HttpClient HTTP = HttpClient.newHttpClient();

    @BeforeAll
    static void start() {
        redis = RedisServer.start();
        app = run(redis);
    }

    private static ConfigurableApplicationContext run(RedisServer server) {
        SpringApplication application = new SpringApplication(App.class);
        application.setDefaultProperties(Map.of("server.port", "0", "redis", server.url(), "spring.main.banner-mode", "off",
            "logging.level.root", "OFF"));
        return application.run();
    }

    @AfterAll
    static void stop() {
        app.close();
        redis.close();
    }

    private static Sessions sessions() {
        return app.getBean(Sessions.class);
    }

    private static final class Browser {
        private final ConfigurableApplicationContext of;
        final Map<String, String> cookies = new LinkedHashMap<>();

        Browser(ConfigurableApplicationContext of) {
            this.of = of;
        }

        Browser() {
            this(app);
        }

        HttpResponse<String> send(String method, String path, String body) {
            try {
                int port = ((ServletWebServerApplicationContext) of).getWebServer().getPort();
                HttpRequest.Builder b = HttpRequest.newBuilder(URI.create("http://localhost:" + port + path))
                    .method(method, HttpRequest.BodyPublishers.ofString(body)).header("Content-Type", "application/x-www-form-urlencoded");
                List<String> pairs = new ArrayList<>();
                cookies.forEach((name, value) -> pairs.add(name + "=" + value));
                if (!pairs.isEmpty()) {
                    b.header("Cookie", String.join("; ", pairs));
                }
                HttpResponse<String> response = HTTP.send(b.build(), HttpResponse.BodyHandlers.ofString());
                for (String line : response.headers().allValues("set-cookie")) {
                    String[] pair = line.substring(0, line.indexOf(';')).split("=", 2);
                    if (pair[1].isEmpty()) {
                        cookies.remove(pair[0]);
                    } else {
                        cookies.put(pair[0], pair[1]);
                    }
                }
                return response;
            } catch (IOException | InterruptedException e) {
                throw new IllegalStateException(e);
            }
        }

        String get(String path) {
            HttpResponse<String> r = send("GET", path, "");
            assertEquals(200, r.statusCode(), () -> path + ": " + r.body());
            return r.body();
        }

        void login() {
            HttpResponse<String> r = send("POST", "/login", "username=ada&password=secret");
            assertEquals("in", r.body());
        }

        String token() {
            return cookies.values().iterator().next();
        }
    }

    @Test
    void anAttributeIsAFieldThatOtherLanguagesRead() {
        Browser b = new Browser();
        b.get("/set?name=theme&value=dark");
        assertEquals(Set.of("__Host-session-anon"), b.cookies.keySet());
        Session native_ = sessions().begin(b.token()).read();
        assertEquals("dark", Value.of("theme").get(native_, ""));
        Value.of("theme").set(native_, "light");
        native_.commit();
        assertEquals("light", b.get("/get?name=theme"));
        b.get("/remove?name=theme");
        assertEquals("null", b.get("/get?name=theme"));
    }

    @Test
    void twoDevicesOfAUserShareACart() {
        Browser phone = new Browser();
        phone.get("/cart?add=2");
        phone.login();
        assertEquals("{apple=2}", phone.get("/cart?add=0"));
        Browser laptop = new Browser();
        laptop.get("/cart?add=1");
        laptop.login();
        assertEquals("{apple=4}", laptop.get("/cart?add=1"));
        assertEquals("{apple=4}", phone.get("/cart?add=0"));
    }

    @Test
    void anyNameOfAnAttributeWorks() {
        Browser b = new Browser();
        String name = "org.springframework.security.web.csrf.HttpSessionCsrfTokenRepository.CSRF_TOKEN";
        b.get("/set?name=" + name + "&value=1");
        b.get("/set?name=a%20b:c%C3%A9&value=2");
        b.get("/set?name=@s&value=3");
        assertEquals("1", b.get("/get?name=" + name));
        assertEquals("2", b.get("/get?name=a%20b:c%C3%A9"));
        assertEquals("3", b.get("/get?name=@s"));
        assertEquals("{@s=String 3, a b:c\u00e9=String 2, " + name + "=String 1}", b.get("/classes"));
        b.get("/remove?name=@s");
        assertEquals("null", b.get("/get?name=@s"));
    }

    @Test
    void aTypeComesBackAsItWas() {
        Browser b = new Browser();
        b.get("/types");
        assertEquals("{double=Double 1.0, int=Integer 7, list=ArrayList [1, a, {b=3000000000}], long=Long 7}", b.get("/classes"));
    }

    @Test
    void anObjectWithoutACodecIsRefused() {
        Browser b = new Browser();
        assertEquals(500, b.send("GET", "/object", "").statusCode());
        assertTrue(b.cookies.isEmpty());
    }

    @Test
    void concurrentChangesOfDifferentAttributesAreAllThere() {
        Browser b = new Browser();
        b.get("/set?name=a&value=1");
        List<CompletableFuture<Void>> all = new ArrayList<>();
        for (int i = 0; i < 40; i++) {
            String path = i % 2 == 0 ? "/set?name=n" + i + "&value=" + i : "/add";
            all.add(CompletableFuture.runAsync(() -> b.get(path)));
        }
        all.forEach(CompletableFuture::join);
        for (int i = 0; i < 40; i += 2) {
            assertEquals(Integer.toString(i), b.get("/get?name=n" + i));
        }
        assertEquals("20", b.get("/get?name=count"));
    }

    @Test
    void aLoginIsASignIn() {
        Browser b = new Browser();
        b.get("/set?name=planted&value=1");
        b.get("/set?name=kept&value=1");
        String before = b.token();
        b.login();
        assertEquals(Set.of("__Host-session"), b.cookies.keySet());
        assertNotEquals(before, b.token());
        assertEquals("ada", b.get("/me"));
        assertEquals("null", b.get("/get?name=planted"));
        assertEquals("1", b.get("/get?name=kept"));
        assertEquals("ada", sessions().begin(b.token()).read().user());
        Browser old = new Browser();
        old.cookies.put("__Host-session-anon", before);
        assertEquals("null", old.get("/get?name=kept"));
    }

    @Test
    void aSecurityContextThatIsSetAndRemovedSignsNobodyIn() {
        CoatcheckSessionRepository repository = app.getBean(CoatcheckSessionRepository.class);
        CoatcheckSession s = repository.createSession();
        s.setAttribute("SPRING_SECURITY_CONTEXT", new SecurityContextImpl(
            UsernamePasswordAuthenticationToken.authenticated("eve", null, List.of())));
        s.setAttribute("other", "1");
        s.removeAttribute("SPRING_SECURITY_CONTEXT");
        repository.save(s);
        assertEquals("", s.session().user());
        assertEquals(List.of(), sessions().sessions("eve"));
    }

    @Test
    void theObjectsOfSpringSecurityAreStored() {
        Browser b = new Browser();
        assertEquals(302, b.send("GET", "/me", "").statusCode());
        assertEquals(302, b.send("POST", "/login", "username=ada&password=wrong").statusCode());
        String classes = b.get("/classes");
        assertTrue(classes.contains("SPRING_SECURITY_SAVED_REQUEST=DefaultSavedRequest"), classes);
        assertTrue(classes.contains("SPRING_SECURITY_LAST_EXCEPTION=BadCredentialsException"), classes);
    }

    @Test
    void aUserIsFoundAndRevokedByName() {
        sessions().revokeUser("ada", List.of());
        Browser b = new Browser();
        Browser c = new Browser();
        b.login();
        c.login();
        CoatcheckSessionRepository repository = app.getBean(CoatcheckSessionRepository.class);
        Map<String, CoatcheckSession> found = repository.findByPrincipalName("ada");
        assertEquals(2, found.size());
        String handle = found.keySet().iterator().next(); // the newest
        assertNull(repository.findById(handle), "a handle opens no session");
        repository.deleteById(handle);
        assertEquals(302, c.send("GET", "/me", "").statusCode());
        assertEquals("ada", b.get("/me"));
        assertEquals(1, sessions().revokeUser("ada", List.of()));
        assertEquals(302, b.send("GET", "/me", "").statusCode());
    }

    @Test
    void aLogoutEndsTheSessionForAllRequests() throws Exception {
        Browser b = new Browser();
        b.login();
        Browser slow = new Browser();
        slow.cookies.putAll(b.cookies);
        CompletableFuture<HttpResponse<String>> response = CompletableFuture.supplyAsync(() -> slow.send("GET", "/slow?on=logout", ""));
        assertTrue(App.latch("logout read").await(60, TimeUnit.SECONDS));
        assertEquals("out", b.send("POST", "/logout", "").body());
        assertTrue(b.cookies.isEmpty());
        App.latch("logout").countDown();
        HttpResponse<String> r = response.get(60, TimeUnit.SECONDS);
        assertEquals(409, r.statusCode(), r.body());
        assertTrue(r.headers().allValues("set-cookie").isEmpty());
        assertEquals("no session", slow.get("/get?name=slow"));
    }

    @Test
    void changeSessionIdRenewsTheToken() {
        Browser b = new Browser();
        b.get("/set?name=a&value=1");
        String before = b.token();
        String after = b.get("/change");
        assertEquals(after, b.token());
        assertNotEquals(before, after);
        assertEquals("1", b.get("/get?name=changed"));
        Browser old = new Browser();
        old.cookies.put("__Host-session-anon", before);
        assertEquals("null", old.get("/get?name=a"));
        HttpResponse<String> r = old.send("GET", "/set?name=a&value=2", "");
        assertEquals(409, r.statusCode()); // the browser has a newer cookie, which must stay
        assertTrue(r.headers().allValues("set-cookie").isEmpty());
        assertEquals("1", b.get("/get?name=a"));
    }

    @Test
    void theIdleTimeoutOfASessionNeverChanges() {
        assertEquals("7200", new Browser().get("/interval"));
    }

    @Test
    void aMadeUpIdIsNotAdopted() {
        Browser b = new Browser();
        for (String id : List.of("AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "33fd1b6-b496", "0000-N0cI__dxndWXnsh11WzSKA")) {
            b.cookies.clear();
            b.cookies.put("__Host-session-anon", id);
            assertEquals("no session", b.get("/get?name=a"));
            b.get("/set?name=a&value=1");
            assertNotEquals(id, b.token());
        }
    }

    @Test
    void invalidateDeletesTheCookie() {
        Browser b = new Browser();
        b.get("/set?name=a&value=1");
        b.get("/invalidate");
        assertTrue(b.cookies.isEmpty());
    }

    @Test
    void aStoreThatIsDownIsA503() {
        try (RedisServer own = RedisServer.start(); ConfigurableApplicationContext down = run(own)) {
            Browser b = new Browser(down);
            b.get("/set?name=a&value=1");
            own.down();
            HttpResponse<String> r = b.send("GET", "/get?name=a", "");
            assertEquals(503, r.statusCode());
            assertFalse(r.headers().firstValue("retry-after").isEmpty());
            assertEquals(503, b.send("GET", "/set?name=a&value=2", "").statusCode());
            assertEquals(1, b.cookies.size());
        }
    }
}
