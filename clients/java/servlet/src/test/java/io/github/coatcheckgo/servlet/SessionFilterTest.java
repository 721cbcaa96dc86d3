package io.github.coatcheckgo.servlet;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.coatcheckgo.testkit.RedisServer;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.Socket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.web.server.servlet.context.ServletWebServerApplicationContext;
import org.springframework.context.ConfigurableApplicationContext;

/** The filter in a real Spring Boot application. */
class SessionFilterTest {
    private static RedisServer redis;
    private static ConfigurableApplicationContext app;
    private static ConfigurableApplicationContext csrfApp;
    private static final HttpClient HTTP = HttpClient.newHttpClient();

    @BeforeAll
    static void start() {
        redis = RedisServer.start();
        app = run("a", false);
        csrfApp = run("b", true);
    }

    private static ConfigurableApplicationContext run(String namespace, boolean csrf) {
        SpringApplication application = new SpringApplication(App.class);
        application.setDefaultProperties(Map.of("server.port", "0", "redis", redis.url(), "namespace", namespace,
            "csrf", Boolean.toString(csrf), "spring.main.banner-mode", "off", "logging.level.root", "OFF"));
        return application.run();
    }

    @AfterAll
    static void stop() {
        app.close();
        csrfApp.close();
        redis.close();
    }

    private static int port(ConfigurableApplicationContext of) {
        return ((ServletWebServerApplicationContext) of).getWebServer().getPort();
    }

    /** A browser: it keeps the cookies. */
    private static final class Browser {
        private final ConfigurableApplicationContext of;
        final Map<String, String> cookies = new LinkedHashMap<>();

        Browser(ConfigurableApplicationContext of) {
            this.of = of;
        }

        Browser() {
            this(app);
        }

        HttpResponse<String> send(String method, String path, String... headers) {
            try {
                HttpRequest.Builder b = HttpRequest.newBuilder(URI.create("http://localhost:" + port(of) + path))
                    .method(method, HttpRequest.BodyPublishers.noBody());
                if (!cookies.isEmpty()) {
                    List<String> pairs = new ArrayList<>();
                    cookies.forEach((name, value) -> pairs.add(name + "=" + value));
                    b.header("Cookie", String.join("; ", pairs));
                }
                for (int i = 0; i < headers.length; i += 2) {
                    b.header(headers[i], headers[i + 1]);
                }
                HttpResponse<String> response = HTTP.send(b.build(), HttpResponse.BodyHandlers.ofString());
                response.headers().allValues("set-cookie").forEach(this::learn);
                return response;
            } catch (IOException e) {
                throw new IllegalStateException(e);
            } catch (InterruptedException e) {
                throw new IllegalStateException(e);
            }
        }

        synchronized void learn(String line) {
            String[] pair = line.substring(0, line.indexOf(';')).split("=", 2);
            if (pair[1].isEmpty()) {
                cookies.remove(pair[0]);
            } else {
                cookies.put(pair[0], pair[1]);
            }
        }

        String get(String path) {
            HttpResponse<String> r = send("GET", path);
            assertEquals(200, r.statusCode(), () -> path + ": " + r.body());
            return r.body();
        }

        String post(String path) {
            HttpResponse<String> r = send("POST", path);
            assertEquals(200, r.statusCode(), () -> path + ": " + r.body());
            return r.body();
        }
    }

    @Test
    void aRequestThatDoesNotUseTheSessionIsLeftAlone() {
        HttpResponse<String> r = new Browser().send("GET", "/plain");
        assertEquals("no session", r.body());
        assertTrue(r.headers().allValues("set-cookie").isEmpty());
        assertTrue(r.headers().allValues("vary").isEmpty());
    }

    @Test
    void theCookieIsSecureByDefault() {
        Browser b = new Browser();
        HttpResponse<String> r = b.send("GET", "/visits");
        String line = r.headers().firstValue("set-cookie").orElseThrow();
        assertTrue(line.matches("__Host-session-anon=[A-Za-z0-9_-]{52}; Path=/; HttpOnly; Secure; SameSite=Lax"), line);
        assertEquals("no-store", r.headers().firstValue("cache-control").orElse(""));
        assertEquals("Cookie", r.headers().firstValue("vary").orElse(""));
        HttpResponse<String> second = b.send("GET", "/read");
        assertEquals("1 none ", second.body());
        assertTrue(second.headers().allValues("set-cookie").isEmpty());
        assertEquals("private, no-cache", second.headers().firstValue("cache-control").orElse(""));
    }

    @Test
    void anUnknownTokenIsNotAdopted() {
        Browser b = new Browser();
        String made = "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        b.cookies.put("__Host-session-anon", made);
        b.get("/visits");
        assertFalse(b.cookies.containsValue(made));
        assertEquals("1 none ", b.get("/read"));
    }

    @Test
    void concurrentRequestsLoseNoAddition() {
        Browser b = new Browser();
        b.get("/visits");
        Set<String> seen = ConcurrentHashMap.newKeySet();
        List<CompletableFuture<Void>> all = new ArrayList<>();
        for (int i = 0; i < 200; i++) {
            all.add(CompletableFuture.runAsync(() -> seen.add(b.get("/visits"))));
        }
        all.forEach(CompletableFuture::join);
        assertEquals("201 none ", b.get("/read"));
    }

    @Test
    void aSlowRequestDoesNotBringASessionBack() throws Exception {
        Browser b = new Browser();
        b.get("/visits");
        Browser slow = new Browser();
        slow.cookies.putAll(b.cookies);
        CompletableFuture<HttpResponse<String>> response = CompletableFuture.supplyAsync(() -> slow.send("GET", "/slow?on=out"));
        assertTrue(App.latch("out read").await(60, TimeUnit.SECONDS));
        b.post("/out");
        assertTrue(b.cookies.isEmpty());
        App.latch("out").countDown();
        HttpResponse<String> r = response.get(60, TimeUnit.SECONDS);
        assertEquals(409, r.statusCode());
        assertTrue(r.headers().allValues("set-cookie").isEmpty());
        assertEquals("0 none ", slow.get("/read"));
    }

    @Test
    void signInGivesANewTokenAndDropsPlantedFields() {
        Browser b = new Browser();
        b.get("/visits");
        String before = b.cookies.get("__Host-session-anon");
        b.post("/in?user=ada");
        assertEquals(Set.of("__Host-session"), b.cookies.keySet());
        assertFalse(b.cookies.containsValue(before));
        assertEquals("0 none ada", b.get("/read"));
        Browser old = new Browser();
        old.cookies.put("__Host-session-anon", before);
        assertEquals("0 none ", old.get("/read"));
        assertEquals(409, old.send("GET", "/visits").statusCode());
    }

    @Test
    void theOtherSessionsOfAUserEnd() {
        Browser a = new Browser();
        Browser b = new Browser();
        a.post("/in?user=bob");
        b.post("/in?user=bob");
        assertEquals("1", a.post("/others"));
        assertEquals("0 none bob", a.get("/read"));
        assertEquals("0 none ", b.get("/read"));
    }

    @Test
    void twoDevicesOfAUserShareACart() {
        Browser phone = new Browser();
        phone.post("/cart?article=apple");
        assertEquals("{\"apple\":2}", phone.post("/cart?article=apple"));
        phone.post("/in?user=eve");
        assertEquals("{\"apple\":2}", phone.get("/cart"));
        Browser laptop = new Browser();
        laptop.post("/cart?article=pear");
        laptop.post("/in?user=eve");
        assertEquals("{\"apple\":3,\"pear\":1}", laptop.post("/cart?article=apple"));
        assertEquals("{\"apple\":3,\"pear\":1}", phone.get("/cart"));
        assertEquals(500, phone.send("POST", "/cart-throws").statusCode());
        assertEquals("{\"apple\":3,\"pear\":1}", phone.get("/cart"));
        phone.post("/out");
        assertEquals("{}", phone.get("/cart"));
    }

    @Test
    void aRequestOfAnEndedSessionDoesNotChangeTheCart() throws Exception {
        Browser b = new Browser();
        b.post("/in?user=mallory");
        b.post("/cart?article=apple");
        Browser slow = new Browser();
        slow.cookies.putAll(b.cookies);
        CompletableFuture<HttpResponse<String>> response = CompletableFuture.supplyAsync(() -> slow.send("POST", "/cart-slow?on=cart"));
        assertTrue(App.latch("cart read").await(60, TimeUnit.SECONDS));
        b.post("/out");
        App.latch("cart").countDown();
        HttpResponse<String> r = response.get(60, TimeUnit.SECONDS);
        assertEquals(409, r.statusCode());
        assertTrue(r.headers().allValues("set-cookie").isEmpty());
        b.post("/in?user=mallory");
        assertEquals("{\"apple\":1}", b.get("/cart"));
    }

    @Test
    void anExceptionDiscardsTheChanges() {
        Browser b = new Browser();
        b.get("/visits");
        assertEquals(500, b.send("GET", "/throws").statusCode());
        assertEquals("1 none ", b.get("/read"));
        assertEquals(500, b.send("GET", "/async-throws").statusCode());
        assertEquals("1 none ", b.get("/read"));
    }

    @Test
    void aRenewedTokenLeavesAlsoIfTheHandlerFails() {
        Browser b = new Browser();
        b.get("/visits");
        String before = b.cookies.toString();
        assertEquals(500, b.send("GET", "/renew-then-throws").statusCode());
        assertFalse(b.cookies.toString().equals(before));
        assertEquals("1 none ", b.get("/read"));
    }

    @Test
    void aCommitThatFailsIsNoSuccess() {
        Browser b = new Browser();
        b.get("/visits");
        HttpResponse<String> r = b.send("GET", "/large");
        assertEquals(500, r.statusCode());
        assertEquals("Something went wrong. The error has been logged.\n", r.body());
        assertTrue(r.headers().firstValue("location").isEmpty());
        assertEquals("1", r.headers().firstValue("x-mine").orElse(""));
    }

    @Test
    void aRedirectCommitsFirst() {
        Browser b = new Browser();
        HttpResponse<String> r = b.send("GET", "/redirect");
        assertEquals(302, r.statusCode());
        assertEquals("1 none ", b.get("/read"));
    }

    @Test
    void aStreamCommitsBeforeItsHeaderAndAtItsEnd() throws Exception {
        Browser b = new Browser();
        b.get("/visits");
        try (Socket s = new Socket("localhost", port(app))) {
            s.setSoTimeout(60_000);
            write(s, "/stream?on=stream", b);
            readUntil(s.getInputStream(), "one\n");
            assertEquals("2 none ", b.get("/read"));
            App.latch("stream").countDown();
            readUntil(s.getInputStream(), "two\n");
            readUntil(s.getInputStream(), "0\r\n\r\n");
        }
        await(() -> b.get("/read").equals("2 late "));
    }

    @Test
    void aChangeAfterTheHeaderThatNeedsACookieIsNotStored() {
        Browser b = new Browser();
        assertEquals("begun", b.get("/late"));
        assertTrue(b.cookies.isEmpty());
    }

    @Test
    void asynchronousHandlersCommit() {
        Browser b = new Browser();
        assertEquals("1", b.get("/async"));
        assertEquals("2", b.get("/async"));
        assertEquals(202, b.send("GET", "/async-complete").statusCode());
        assertEquals("3 none ", b.get("/read"));
        Browser fresh = new Browser();
        assertEquals(202, fresh.send("GET", "/async-complete").statusCode());
        assertEquals("1 none ", fresh.get("/read"));
    }

    @Test
    void aCommitGoesOnWhenTheClientIsGone() throws Exception {
        Browser b = new Browser();
        b.get("/visits");
        try (Socket s = new Socket("localhost", port(app))) {
            write(s, "/slow?on=gone", b);
            assertTrue(App.latch("gone read").await(60, TimeUnit.SECONDS));
            s.setSoLinger(true, 0);
        }
        App.latch("gone").countDown();
        await(() -> b.get("/read").equals("2 none "));
    }

    @Test
    void anotherSiteCannotPost() {
        Browser b = new Browser();
        b.get("/visits");
        assertEquals(403, b.send("POST", "/add", "Sec-Fetch-Site", "cross-site").statusCode());
        assertEquals(403, b.send("POST", "/add", "Origin", "https://evil.example").statusCode());
        assertEquals(200, b.send("POST", "/add", "Sec-Fetch-Site", "same-origin").statusCode());
        assertEquals(200, b.send("POST", "/add", "Origin", "http://localhost:" + port(app)).statusCode());
        assertEquals(200, b.send("GET", "/read", "Sec-Fetch-Site", "cross-site").statusCode());
        String own = "http://localhost:" + port(app);
        for (String[] refused : new String[][] {
            {"Origin", "null"}, {"Origin", "localhost:" + port(app)}, {"Origin", "//localhost:" + port(app)},
            {"Origin", own, "Origin", "https://evil.example"},
            {"Origin", "https://a.example", "Origin", "https://b.example", "Sec-Fetch-Site", "same-origin"},
            {"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Site", "cross-site"},
        }) {
            assertEquals(403, b.send("POST", "/add", refused).statusCode(), () -> String.join(" ", refused));
        }
        HttpResponse<String> r = new Browser().send("POST", "/add", "Sec-Fetch-Site", "cross-site");
        assertEquals(403, r.statusCode()); // it would replace the visitor's own cookie
        assertTrue(r.headers().allValues("set-cookie").isEmpty());
    }

    @Test
    void aPostNeedsACsrfTokenOfItsSession() {
        Browser b = new Browser(csrfApp);
        String token = b.get("/csrf");
        assertEquals(403, b.send("POST", "/add").statusCode());
        assertEquals(403, b.send("POST", "/add", "X-CSRF-Token", new Browser(csrfApp).get("/csrf")).statusCode());
        assertEquals(200, b.send("POST", "/add", "X-CSRF-Token", token).statusCode());
        assertEquals(200, b.send("POST", "/add?csrf_token=" + b.get("/csrf")).statusCode());
        assertEquals(200, b.send("POST", "/hook").statusCode());
        // It has no cookie
        assertEquals(200, new Browser(csrfApp).send("POST", "/add").statusCode());
    }

    @Test
    void twoSessionsUnderOneNameAreRefused() {
        Browser a = new Browser();
        Browser b = new Browser();
        a.get("/visits");
        b.get("/visits");
        Browser both = new Browser();
        String second = b.cookies.get("__Host-session-anon");
        both.cookies.put("__Host-session-anon", a.cookies.get("__Host-session-anon") + "; __Host-session-anon=" + second);
        HttpResponse<String> r = both.send("GET", "/read");
        assertEquals(400, r.statusCode());
        assertTrue(r.headers().firstValue("set-cookie").orElse("").startsWith("__Host-session-anon=; Path=/; Max-Age=0"));
    }

    @Test
    void aStoreThatIsDownIsA503AndSignsNobodyOut() {
        try (RedisServer own = RedisServer.start()) {
            SpringApplication application = new SpringApplication(App.class);
            application.setDefaultProperties(Map.of("server.port", "0", "redis", own.url(), "namespace", "down", "timeout", "2m",
                "spring.main.banner-mode", "off", "logging.level.root", "OFF"));
            try (ConfigurableApplicationContext down = application.run()) {
                Browser b = new Browser(down);
                b.get("/visits");
                String before = b.cookies.toString();
                own.down();
                long began = System.nanoTime();
                HttpResponse<String> r = b.send("GET", "/visits");
                assertEquals(503, r.statusCode());
                assertEquals("1", r.headers().firstValue("retry-after").orElse(""));
                assertTrue(r.headers().allValues("set-cookie").isEmpty());
                assertEquals(503, b.send("GET", "/read").statusCode());
                assertTrue(TimeUnit.NANOSECONDS.toMinutes(System.nanoTime() - began) < 2, "none has waited for the timeout");
                assertEquals(before, b.cookies.toString());
                own.up();
                await(() -> b.send("GET", "/read").statusCode() == 200);
            }
        }
    }

    private static void write(Socket s, String path, Browser b) throws IOException {
        OutputStream out = s.getOutputStream();
        String cookie = b.cookies.entrySet().iterator().next().toString();
        out.write(("GET " + path + " HTTP/1.1\r\nHost: localhost\r\nCookie: " + cookie + "\r\n\r\n").getBytes(StandardCharsets.US_ASCII));
        out.flush();
    }

    private static void readUntil(InputStream in, String end) throws IOException {
        StringBuilder got = new StringBuilder();
        while (got.indexOf(end) < 0) {
            int c = in.read();
            assertTrue(c >= 0, () -> "the stream ended: " + got);
            got.append((char) c);
        }
    }

    private static void await(java.util.function.BooleanSupplier condition) {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
        while (!condition.getAsBoolean()) {
            assertTrue(System.nanoTime() < deadline, "it did not happen within 60 s");
            Thread.onSpinWait();
        }
    }
}
