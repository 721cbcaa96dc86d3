package io.github.coatcheckgo.bench;

import io.github.coatcheckgo.servlet.SessionFilter;
import io.github.coatcheckgo.session.Codec;
import io.github.coatcheckgo.session.Config;
import io.github.coatcheckgo.session.Counter;
import io.github.coatcheckgo.session.RedisStore;
import io.github.coatcheckgo.session.Session;
import io.github.coatcheckgo.session.Sessions;
import io.github.coatcheckgo.session.Value;
import io.github.coatcheckgo.spring.CoatcheckSessionConfiguration;
import io.github.coatcheckgo.testkit.RedisServer;
import jakarta.servlet.DispatcherType;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpSession;
import java.io.BufferedInputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.web.server.servlet.context.ServletWebServerApplicationContext;
import org.springframework.boot.web.servlet.FilterRegistrationBean;
import org.springframework.context.ConfigurableApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Import;
import org.springframework.session.data.redis.config.annotation.web.http.EnableRedisHttpSession;
import org.springframework.session.data.redis.config.annotation.web.http.EnableRedisIndexedHttpSession;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.RestController;

/**
 * Compares the cost of requests with that of Spring Session on Redis: three applications on one
 * Redis, in turns, in one process. It also shows a lost update and a session that comes back.
 */
public final class Bench {
    private static final int CONNECTIONS = 4;
    private static RedisServer redis;

    private Bench() {}

    /** What the pages of all applications share. */
    @EnableAutoConfiguration
    public abstract static class App {
        static CountDownLatch go = new CountDownLatch(1);
        static CountDownLatch read = new CountDownLatch(1);
    }

    /** Pages on HttpSession. */
    @RestController
    public static class HttpSessionPages {
        @GetMapping("/none")
        String none() {
            return "ok";
        }

        @GetMapping("/write")
        String write(HttpSession s) {
            Integer n = (Integer) s.getAttribute("n");
            s.setAttribute("n", n == null ? 1 : n + 1);
            return "ok";
        }

        @GetMapping("/read")
        String read(HttpServletRequest r) {
            HttpSession s = r.getSession(false);
            return s == null ? "none" : String.valueOf(s.getAttribute("n"));
        }

        @GetMapping("/slow")
        String slow(HttpSession s) throws InterruptedException {
            Integer n = (Integer) s.getAttribute("n");
            App.read.countDown();
            App.go.await();
            s.setAttribute("n", n == null ? 1 : n + 1);
            return "ok";
        }

        @GetMapping("/out")
        String out(HttpSession s) {
            s.invalidate();
            return "out";
        }
    }

    /** Spring Session on Redis, as Spring Boot sets it up. */
    @EnableRedisHttpSession
    public static class Spring extends App {
        @Bean
        HttpSessionPages pages() {
            return new HttpSessionPages();
        }
    }

    /** Spring Session on Redis with an index of principals. */
    @EnableRedisIndexedHttpSession
    public static class Indexed extends App {
        @Bean
        HttpSessionPages pages() {
            return new HttpSessionPages();
        }
    }

    /** The repository of this client. */
    @Import(CoatcheckSessionConfiguration.class)
    public static class Repository extends App {
        @Bean
        HttpSessionPages pages() {
            return new HttpSessionPages();
        }

        @Bean(destroyMethod = "close")
        RedisStore store() {
            return RedisStore.open(redis.url(), "repository", java.time.Duration.ofSeconds(5));
        }

        @Bean
        Sessions sessions(RedisStore store) {
            return new Sessions(store, new Config());
        }
    }

    /** The filter of this client. */
    public static class Filter extends App {
        @Bean(destroyMethod = "close")
        RedisStore store() {
            return RedisStore.open(redis.url(), "filter", java.time.Duration.ofSeconds(5));
        }

        @Bean
        FilterRegistrationBean<SessionFilter> filter(RedisStore store) {
            FilterRegistrationBean<SessionFilter> bean = new FilterRegistrationBean<>(new SessionFilter(new Sessions(store, new Config())));
            bean.setDispatcherTypes(DispatcherType.REQUEST, DispatcherType.ASYNC);
            return bean;
        }

        @Bean
        Pages pages() {
            return new Pages();
        }

        /** Pages on fields. */
        @RestController
        public static class Pages {
            static final Counter N = Counter.of("n");
            static final Value<Long> OTHER = Value.of("other", Codec.LONG);

            @GetMapping("/none")
            String none() {
                return "ok";
            }

            @GetMapping("/write")
            String write(HttpServletRequest r) {
                N.add(SessionFilter.session(r), 1);
                return "ok";
            }

            @GetMapping("/read")
            String read(HttpServletRequest r) {
                Session s = SessionFilter.session(r);
                return s.handle().isEmpty() ? "none" : Long.toString(N.get(s));
            }

            @GetMapping("/slow")
            String slow(HttpServletRequest r) throws InterruptedException {
                Session s = SessionFilter.session(r);
                App.read.countDown();
                App.go.await();
                N.add(s, 1);
                return "ok";
            }

            @GetMapping("/out")
            String out(HttpServletRequest r) {
                SessionFilter.signOut(r);
                return "out";
            }
        }
    }

    /** A browser with one connection. */
    private static final class Client implements AutoCloseable {
        private final Socket socket;
        private final BufferedInputStream in;
        private String cookie;
        int status;

        Client(int port, String cookie) throws IOException {
            socket = new Socket("localhost", port);
            socket.setTcpNoDelay(true);
            in = new BufferedInputStream(socket.getInputStream());
            this.cookie = cookie;
        }

        String get(String path) throws IOException {
            OutputStream out = socket.getOutputStream();
            out.write(("GET " + path + " HTTP/1.1\r\nHost: localhost\r\n" + (cookie == null ? "" : "Cookie: " + cookie + "\r\n") + "\r\n")
                .getBytes(StandardCharsets.US_ASCII));
            out.flush();
            int length = -1;
            boolean chunked = false;
            status = Integer.parseInt(line().split(" ")[1]);
            for (String line = line(); !line.isEmpty(); line = line()) {
                String lower = line.toLowerCase(java.util.Locale.ROOT);
                if (lower.startsWith("content-length:")) {
                    length = Integer.parseInt(line.substring(15).trim());
                } else if (lower.startsWith("transfer-encoding: chunked")) {
                    chunked = true;
                } else if (lower.startsWith("set-cookie:")) {
                    cookie = line.substring(11, line.indexOf(';')).trim();
                }
            }
            StringBuilder body = new StringBuilder();
            for (int n = chunked ? Integer.parseInt(line(), 16) : Math.max(0, length); n > 0; n = chunked ? Integer.parseInt(line(), 16) : 0) {
                body.append(new String(in.readNBytes(n), StandardCharsets.UTF_8));
                if (chunked) {
                    line();
                }
            }
            if (chunked) {
                line();
            }
            return body.toString();
        }

        private String line() throws IOException {
            StringBuilder line = new StringBuilder();
            for (int c = in.read(); c != '\n'; c = in.read()) {
                if (c < 0) {
                    throw new IOException("the server closed the connection");
                }
                if (c != '\r') {
                    line.append((char) c);
                }
            }
            return line.toString();
        }

        @Override
        public void close() throws IOException {
            socket.close();
        }
    }

    private static int port(ConfigurableApplicationContext app) {
        return ((ServletWebServerApplicationContext) app).getWebServer().getPort();
    }

    private static ConfigurableApplicationContext run(Class<?> app) {
        SpringApplication application = new SpringApplication(app);
        List<String> exclude = app == Spring.class || app == Indexed.class ? List.of() : List.of(
            "org.springframework.boot.session.data.redis.autoconfigure.SessionDataRedisAutoConfiguration",
            "org.springframework.boot.data.redis.autoconfigure.DataRedisAutoConfiguration");
        application.setDefaultProperties(Map.of("server.port", "0", "spring.data.redis.port", redis.port, "spring.main.banner-mode", "off",
            "logging.level.root", "OFF", "server.tomcat.max-keep-alive-requests", "-1", "spring.autoconfigure.exclude", String.join(",", exclude)));
        return application.run();
    }

    private static double cpuMillis(ProcessHandle p) {
        return p.info().totalCpuDuration().orElseThrow().toNanos() / 1e6;
    }

    /** Microseconds of CPU a request: of this process, which has the clients, too, and of Redis. */
    private static double[] measure(ConfigurableApplicationContext app, String cookie, String path, int requests) throws Exception {
        com.sun.management.OperatingSystemMXBean os =
            (com.sun.management.OperatingSystemMXBean) java.lang.management.ManagementFactory.getOperatingSystemMXBean();
        double server = cpuMillis(redis.process());
        long own = os.getProcessCpuTime();
        long began = System.nanoTime();
        List<CompletableFuture<Void>> all = new ArrayList<>();
        for (int c = 0; c < CONNECTIONS; c++) {
            all.add(CompletableFuture.runAsync(() -> {
                try (Client client = new Client(port(app), cookie)) {
                    for (int i = 0; i < requests / CONNECTIONS; i++) {
                        client.get(path);
                        if (client.status != 200) {
                            throw new IllegalStateException("status " + client.status);
                        }
                    }
                } catch (IOException e) {
                    throw new IllegalStateException(e);
                }
            }));
        }
        all.forEach(CompletableFuture::join);
        return new double[] {(os.getProcessCpuTime() - own) / 1e3 / requests, (cpuMillis(redis.process()) - server) * 1e3 / requests,
            (System.nanoTime() - began) / 1e3 / requests};
    }

    public static void main(String[] arguments) throws Exception {
        int requests = arguments.length > 0 ? Integer.parseInt(arguments[0]) : 4000;
        int rounds = arguments.length > 1 ? Integer.parseInt(arguments[1]) : 7;
        redis = RedisServer.start();
        Map<String, ConfigurableApplicationContext> apps = new LinkedHashMap<>();
        apps.put("Spring Session", run(Spring.class));
        apps.put("this repository", run(Repository.class));
        apps.put("this filter", run(Filter.class));
        try (ConfigurableApplicationContext indexed = run(Indexed.class)) {
            races("Spring, indexed", indexed);
        }
        for (Map.Entry<String, ConfigurableApplicationContext> e : apps.entrySet()) {
            races(e.getKey(), e.getValue());
        }
        Map<String, List<double[]>> results = new LinkedHashMap<>();
        Map<String, String> cookies = new LinkedHashMap<>();
        for (Map.Entry<String, ConfigurableApplicationContext> e : apps.entrySet()) {
            try (Client c = new Client(port(e.getValue()), null)) {
                c.get("/write");
                c.get("/read");
                cookies.put(e.getKey(), c.cookie);
            }
        }
        for (int round = -2; round < rounds; round++) { // two rounds warm up
            for (Map.Entry<String, ConfigurableApplicationContext> e : apps.entrySet()) {
                for (String path : List.of("/none", "/read", "/write")) {
                    double[] m = measure(e.getValue(), cookies.get(e.getKey()), path, requests);
                    if (round >= 0) {
                        results.computeIfAbsent(path + " " + e.getKey(), k -> new ArrayList<>()).add(m);
                    }
                }
            }
        }
        System.out.printf("%-24s %28s %28s %28s%n", "microseconds a request", "CPU of the process", "CPU of redis-server", "time");
        results.forEach((name, list) -> System.out.printf("%-24s %28s %28s %28s%n", name, stats(list, 0), stats(list, 1), stats(list, 2)));
        apps.values().forEach(ConfigurableApplicationContext::close);
        redis.close();
        System.exit(0);
    }

    private static String stats(List<double[]> list, int i) {
        double[] sorted = list.stream().mapToDouble(m -> m[i]).sorted().toArray();
        return String.format("%.0f (%.0f to %.0f)", sorted[sorted.length / 2], sorted[0], sorted[sorted.length - 1]);
    }

    /** Says what Spring Session left in Redis under the id of a cookie. */
    private static String leftovers(String cookie) throws IOException {
        String value = cookie.substring(cookie.indexOf('=') + 1);
        if (!cookie.startsWith("SESSION=")) {
            return "";
        }
        String id = new String(java.util.Base64.getDecoder().decode(value), StandardCharsets.US_ASCII);
        try (Socket s = new Socket("127.0.0.1", redis.port)) {
            s.getOutputStream().write(("HLEN spring:session:sessions:" + id + "\r\n").getBytes(StandardCharsets.US_ASCII));
            s.getInputStream().read();
            return ", values of the session in Redis: " + (char) s.getInputStream().read();
        }
    }

    private static void races(String name, ConfigurableApplicationContext app) throws Exception {
        String cookie;
        try (Client c = new Client(port(app), null)) {
            c.get("/write");
            cookie = c.cookie;
            AtomicInteger left = new AtomicInteger(400);
            List<CompletableFuture<Void>> all = new ArrayList<>();
            for (int t = 0; t < 16; t++) {
                all.add(CompletableFuture.runAsync(() -> {
                    try (Client other = new Client(port(app), cookie)) {
                        while (left.getAndDecrement() > 0) {
                            other.get("/write");
                        }
                    } catch (IOException e) {
                        throw new IllegalStateException(e);
                    }
                }, r -> new Thread(r).start()));
            }
            all.forEach(CompletableFuture::join);
            System.out.printf("%-16s 401 increments, 16 requests at a time: %s%n", name, c.get("/read"));
        }
        App.go = new CountDownLatch(1);
        App.read = new CountDownLatch(1);
        try (Client c = new Client(port(app), cookie); Client slow = new Client(port(app), cookie)) {
            CompletableFuture<Integer> status = CompletableFuture.supplyAsync(() -> {
                try {
                    slow.get("/slow");
                    return slow.status;
                } catch (IOException e) {
                    throw new IllegalStateException(e);
                }
            });
            App.read.await();
            c.get("/out");
            App.go.countDown();
            int answer = status.get();
            try (Client after = new Client(port(app), cookie)) {
                String session = after.get("/read");
                System.out.printf("%-16s sign-out during a slow request: it gets status %d, the next one session: %s%s%n",
                    name, answer, after.status == 200 ? session : "an error", leftovers(cookie));
            }
        }
    }
}
