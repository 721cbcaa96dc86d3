package io.github.coatcheckgo.spring;

import io.github.coatcheckgo.session.Codec;
import io.github.coatcheckgo.session.Config;
import io.github.coatcheckgo.session.Counter;
import io.github.coatcheckgo.session.Counters;
import io.github.coatcheckgo.session.Data;
import io.github.coatcheckgo.session.RedisStore;
import io.github.coatcheckgo.session.Session;
import io.github.coatcheckgo.session.Sessions;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpSession;
import java.security.Principal;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Import;
import org.springframework.core.env.Environment;
import org.springframework.security.config.annotation.web.builders.HttpSecurity;
import org.springframework.security.core.userdetails.User;
import org.springframework.security.core.userdetails.UserDetailsService;
import org.springframework.security.jackson.SecurityJacksonModules;
import org.springframework.security.provisioning.InMemoryUserDetailsManager;
import org.springframework.security.web.SecurityFilterChain;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.RequestParam;
import org.springframework.web.bind.annotation.RestController;
import tools.jackson.databind.json.JsonMapper;

/**
 * A Spring Boot application with Spring Security and HttpSession. Its sessions are in Coatcheck.
 */
@EnableAutoConfiguration
@Import(CoatcheckSessionConfiguration.class)
public class App {
    static final Counters CART = Counters.of("cart");
    static final Map<String, CountDownLatch> LATCHES = new ConcurrentHashMap<>();

    static CountDownLatch latch(String name) {
        return LATCHES.computeIfAbsent(name, n -> new CountDownLatch(1));
    }

    @Bean(destroyMethod = "close")
    RedisStore store(Environment env) {
        return RedisStore.open(env.getRequiredProperty("redis"), "spring", Duration.ofSeconds(60));
    }

    @Bean
    Sessions sessions(RedisStore store) {
        return new Sessions(store, new Config().userFields(CART).keepFields(List.of("kept")));
    }

    @Bean
    Attributes attributes() {
        JsonMapper mapper = JsonMapper.builder().addModules(SecurityJacksonModules.getModules(App.class.getClassLoader())).build();
        return new Attributes().with("long", Codec.LONG)
            .springSecurity(Codec.of(mapper::writeValueAsString, json -> mapper.readValue(json, Object.class)));
    }

    @Bean
    UserDetailsService users() {
        return new InMemoryUserDetailsManager(User.withUsername("ada").password("{noop}secret").roles("USER").build());
    }

    @Bean
    SecurityFilterChain security(HttpSecurity http) throws Exception {
        return http.authorizeHttpRequests(a -> a.requestMatchers("/me").authenticated().anyRequest().permitAll())
            .formLogin(f -> f.successHandler((r, w, a) -> w.getWriter().write("in")))
            .logout(l -> l.logoutSuccessHandler((r, w, a) -> w.getWriter().write("out")))
            .csrf(c -> c.disable()).build();
    }

    @Bean
    Pages pages() {
        return new Pages();
    }

    @RestController
    static class Pages {
        @GetMapping("/set")
        String set(HttpSession s, @RequestParam("name") String name, @RequestParam("value") String value) {
            s.setAttribute(name, value);
            return "set";
        }

        @GetMapping("/remove")
        String remove(HttpSession s, @RequestParam("name") String name) {
            s.removeAttribute(name);
            return "removed";
        }

        @GetMapping("/types")
        String types(HttpSession s) {
            s.setAttribute("int", 7);
            s.setAttribute("long", 7L);
            s.setAttribute("double", 1.0);
            s.setAttribute("list", List.of(1, "a", Map.of("b", 3_000_000_000L)));
            return "set";
        }

        @GetMapping("/classes")
        String classes(HttpSession s) {
            Map<String, String> classes = new TreeMap<>();
            s.getAttributeNames().asIterator().forEachRemaining(n -> classes.put(n, s.getAttribute(n).getClass().getSimpleName() + " " + s.getAttribute(n)));
            return classes.toString();
        }

        @GetMapping("/object")
        String object(HttpSession s) {
            s.setAttribute("thread", new Thread());
            return "set";
        }

        @GetMapping("/get")
        String get(HttpServletRequest r, @RequestParam("name") String name) {
            HttpSession s = r.getSession(false);
            return s == null ? "no session" : String.valueOf(s.getAttribute(name));
        }

        @GetMapping("/add")
        String add(HttpSession s) {
            Counter.of("count").add((Session) s.getAttribute(CoatcheckSession.NATIVE), 1);
            return "added";
        }

        @GetMapping("/cart")
        String cart(HttpSession s, @RequestParam("add") int apples) {
            Data data = ((Session) s.getAttribute(CoatcheckSession.NATIVE)).userData();
            CART.add(data, "apple", apples);
            return CART.all(data).toString();
        }

        @GetMapping("/slow")
        String slow(HttpSession s, @RequestParam("on") String name) throws InterruptedException {
            s.getAttribute("a");
            latch(name + " read").countDown();
            latch(name).await();
            s.setAttribute("slow", "written");
            return "written";
        }

        @GetMapping("/change")
        String change(HttpServletRequest r) {
            r.getSession().setAttribute("changed", "1");
            return r.changeSessionId();
        }

        @GetMapping("/interval")
        String interval(HttpSession s) {
            int seconds = s.getMaxInactiveInterval();
            s.setMaxInactiveInterval(seconds);
            try {
                s.setMaxInactiveInterval(5);
                return "changed";
            } catch (UnsupportedOperationException e) {
                return Integer.toString(seconds);
            }
        }

        @GetMapping("/invalidate")
        String invalidate(HttpSession s) {
            s.invalidate();
            return "invalidated";
        }

        @GetMapping("/me")
        String me(Principal p) {
            return p.getName();
        }
    }
}
