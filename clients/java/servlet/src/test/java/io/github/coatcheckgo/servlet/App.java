package io.github.coatcheckgo.servlet;

import io.github.coatcheckgo.session.Codec;
import io.github.coatcheckgo.session.Config;
import io.github.coatcheckgo.session.Counter;
import io.github.coatcheckgo.session.Counters;
import io.github.coatcheckgo.session.Data;
import io.github.coatcheckgo.session.Login;
import io.github.coatcheckgo.session.RedisStore;
import io.github.coatcheckgo.session.Session;
import io.github.coatcheckgo.session.Sessions;
import io.github.coatcheckgo.session.Value;
import jakarta.servlet.DispatcherType;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.web.servlet.FilterRegistrationBean;
import org.springframework.context.annotation.Bean;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.PostMapping;
import org.springframework.web.bind.annotation.RequestParam;
import org.springframework.web.bind.annotation.RestController;

/** A Spring Boot application on Tomcat, with the filter. */
@EnableAutoConfiguration
public class App {
    static final Counter VISITS = Counter.of("visits");
    static final Value<String> THEME = Value.of("theme");
    static final Value<String> BIG = Value.of("big", Codec.STRING);
    static final Counters CART = Counters.of("cart");
    static final Map<String, CountDownLatch> LATCHES = new ConcurrentHashMap<>();

    static CountDownLatch latch(String name) {
        return LATCHES.computeIfAbsent(name, n -> new CountDownLatch(1));
    }

    @Bean(destroyMethod = "close")
    RedisStore store(org.springframework.core.env.Environment env) {
        return RedisStore.open(env.getRequiredProperty("redis"), env.getRequiredProperty("namespace"),
            org.springframework.boot.convert.DurationStyle.detectAndParse(env.getProperty("timeout", "60s")));
    }

    @Bean
    Sessions sessions(RedisStore store, org.springframework.core.env.Environment env) {
        return new Sessions(store, new Config().userFields(CART).csrf(env.getProperty("csrf", Boolean.class, false)));
    }

    @Bean
    FilterRegistrationBean<SessionFilter> filter(Sessions sessions) {
        FilterRegistrationBean<SessionFilter> bean = new FilterRegistrationBean<>(
            new SessionFilter(sessions).csrfExempt(r -> r.getRequestURI().startsWith("/hook")));
        bean.setDispatcherTypes(DispatcherType.REQUEST, DispatcherType.ASYNC);
        return bean;
    }

    @Bean
    Pages pages(Sessions sessions) {
        return new Pages(sessions);
    }

    @RestController
    static class Pages {
        private final Sessions sessions;

        Pages(Sessions sessions) {
            this.sessions = sessions;
        }

        @GetMapping("/plain")
        String plain() {
            return "no session";
        }

        @GetMapping("/visits")
        String visits(HttpServletRequest r) {
            Session s = SessionFilter.session(r);
            VISITS.add(s, 1);
            return Long.toString(VISITS.get(s));
        }

        @GetMapping("/read")
        String read(HttpServletRequest r) {
            Session s = SessionFilter.session(r);
            return VISITS.get(s) + " " + THEME.get(s, "none") + " " + s.user();
        }

        @PostMapping({"/add", "/hook"})
        String add(HttpServletRequest r) {
            VISITS.add(SessionFilter.session(r), 1);
            return "added";
        }

        @GetMapping("/csrf")
        String csrf(HttpServletRequest r) {
            return SessionFilter.session(r).csrfToken();
        }

        @PostMapping("/in")
        String in(HttpServletRequest r, @RequestParam("user") String user) {
            SessionFilter.session(r).signIn(Login.user(user).userAgent(r.getHeader("User-Agent")));
            return "in";
        }

        @PostMapping("/cart")
        Map<String, Long> addToCart(HttpServletRequest r, @RequestParam("article") String article) {
            Data data = SessionFilter.session(r).userData();
            CART.add(data, article, 1);
            return CART.all(data);
        }

        @GetMapping("/cart")
        Map<String, Long> cart(HttpServletRequest r) {
            return CART.all(SessionFilter.session(r).userData());
        }

        @PostMapping("/cart-throws")
        String cartFails(HttpServletRequest r) {
            CART.add(SessionFilter.session(r).userData(), "apple", 100);
            throw new IllegalStateException("on purpose");
        }

        @PostMapping("/cart-slow")
        String slowCart(HttpServletRequest r, @RequestParam("on") String name) throws InterruptedException {
            Data data = SessionFilter.session(r).userData();
            latch(name + " read").countDown();
            latch(name).await();
            CART.add(data, "apple", 100);
            return "added";
        }

        @PostMapping("/out")
        String out(HttpServletRequest r) {
            SessionFilter.signOut(r);
            return "out";
        }

        @PostMapping("/others")
        int others(HttpServletRequest r) {
            Session s = SessionFilter.session(r);
            return sessions.revokeUser(s.user(), java.util.List.of(s.handle()));
        }

        @GetMapping("/throws")
        String fails(HttpServletRequest r) {
            VISITS.add(SessionFilter.session(r), 100);
            throw new IllegalStateException("on purpose");
        }

        @GetMapping("/renew-then-throws")
        String renewFails(HttpServletRequest r) {
            Session s = SessionFilter.session(r);
            s.renew();
            VISITS.add(s, 100);
            throw new IllegalStateException("on purpose");
        }

        @GetMapping("/large")
        void large(HttpServletRequest r, HttpServletResponse w) throws IOException {
            Session s = SessionFilter.session(r);
            BIG.set(s, "x".repeat(70_000));
            w.setHeader("Location", "/elsewhere");
            w.setHeader("X-Mine", "1");
            w.getWriter().write("stored");
        }

        @GetMapping("/slow")
        String slow(HttpServletRequest r, @RequestParam("on") String name) throws InterruptedException {
            Session s = SessionFilter.session(r);
            long before = VISITS.get(s);
            latch(name + " read").countDown();
            latch(name).await();
            VISITS.add(s, 1);
            return Long.toString(before);
        }

        @GetMapping("/stream")
        void stream(HttpServletRequest r, HttpServletResponse w, @RequestParam("on") String name) throws Exception {
            Session s = SessionFilter.session(r);
            VISITS.add(s, 1);
            w.getWriter().write("one\n");
            w.flushBuffer();
            latch(name).await();
            THEME.set(s, "late");
            w.getWriter().write("two\n");
        }

        @GetMapping("/late")
        void late(HttpServletRequest r, HttpServletResponse w) throws IOException {
            Session s = SessionFilter.session(r);
            w.getWriter().write("begun");
            w.flushBuffer();
            VISITS.add(s, 1);
        }

        @GetMapping("/async")
        Callable<String> async(HttpServletRequest r) {
            return () -> {
                Session s = SessionFilter.session(r);
                VISITS.add(s, 1);
                return Long.toString(VISITS.get(s));
            };
        }

        @GetMapping("/async-throws")
        Callable<String> asyncThrows(HttpServletRequest r) {
            return () -> {
                VISITS.add(SessionFilter.session(r), 100);
                throw new IllegalStateException("on purpose");
            };
        }

        @GetMapping("/async-complete")
        void asyncComplete(HttpServletRequest r) {
            var context = r.startAsync();
            context.start(() -> {
                VISITS.add(SessionFilter.session(r), 1);
                ((HttpServletResponse) context.getResponse()).setStatus(202);
                context.complete();
            });
        }

        @GetMapping("/redirect")
        void redirect(HttpServletRequest r, HttpServletResponse w) throws IOException {
            VISITS.add(SessionFilter.session(r), 1);
            w.sendRedirect("/read");
        }
    }
}
