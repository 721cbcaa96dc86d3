package ledger;

import io.github.coatcheckgo.servlet.SessionFilter;
import io.github.coatcheckgo.session.Codec;
import io.github.coatcheckgo.session.Config;
import io.github.coatcheckgo.session.MapField;
import io.github.coatcheckgo.session.RedisStore;
import io.github.coatcheckgo.session.Session;
import io.github.coatcheckgo.session.Sessions;
import io.github.coatcheckgo.session.Value;
import jakarta.servlet.DispatcherType;
import jakarta.servlet.http.HttpServletRequest;
import java.net.URI;
import java.time.Duration;
import java.time.Instant;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.boot.web.servlet.FilterRegistrationBean;
import org.springframework.context.annotation.Bean;
import org.springframework.http.HttpStatus;
import org.springframework.http.MediaType;
import org.springframework.http.ResponseEntity;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.PostMapping;
import org.springframework.web.bind.annotation.RestController;
import org.springframework.web.util.HtmlUtils;

/** The ledger: books what the shop has put into the cart. */
@SpringBootApplication
@RestController
public class Ledger {
    /** How many of each article are in the cart. */
    private static final Value<Object> CART = Value.of("shop.cart", Codec.JSON);
    private static final MapField<Object> ORDERS = MapField.of("ledger.orders", Codec.JSON);

    public static void main(String[] args) {
        System.setProperty("server.address", "127.0.0.1");
        System.setProperty("server.port", System.getenv("PORT"));
        System.setProperty("spring.main.banner-mode", "off");
        SpringApplication.run(Ledger.class, args);
    }

    @Bean
    Sessions sessions() {
        HexFormat hex = HexFormat.of();
        // The first connection loads many classes, which takes seconds on a busy machine.
        RedisStore store = RedisStore.open(System.getenv("REDIS_URL"), "coatcheck", Duration.ofSeconds(15));
        return new Sessions(store, new Config()
            .keys(List.of(hex.parseHex(System.getenv("SESSION_KEY"))))
            .userKey(hex.parseHex(System.getenv("USER_KEY"))));
    }

    @Bean
    FilterRegistrationBean<SessionFilter> filter(Sessions sessions) {
        var registration = new FilterRegistrationBean<>(new SessionFilter(sessions));
        registration.setDispatcherTypes(DispatcherType.REQUEST, DispatcherType.ASYNC);
        return registration;
    }

    @GetMapping("/ledger/health")
    String health() {
        return "ok";
    }

    @GetMapping(path = "/ledger/", produces = MediaType.TEXT_HTML_VALUE)
    String index(HttpServletRequest request) {
        Session s = SessionFilter.session(request);
        long articles = count(CART.get(s).orElse(Map.of()));
        return page(s.user().isEmpty() ? "nobody" : s.user(), articles, ORDERS.all(s).size());
    }

    /**
     * Empties the cart and books an order, in one atomic step: of two clicks, one finds the cart
     * empty.
     */
    @PostMapping("/ledger/order")
    ResponseEntity<String> order(HttpServletRequest request) {
        Session s = SessionFilter.session(request);
        if (s.user().isEmpty()) {
            return ResponseEntity.status(HttpStatus.UNAUTHORIZED).body("sign in first");
        }
        String id = UUID.randomUUID().toString();
        CART.update(s, cart -> {
            long articles = count(cart.orElse(Map.of()));
            if (articles > 0) {
                ORDERS.set(s, id, Map.of("articles", articles, "at", Instant.now().toString()));
            } else {
                ORDERS.delete(s, id); // an earlier attempt saw articles
            }
            return Map.of();
        });
        return ResponseEntity.status(HttpStatus.SEE_OTHER).location(URI.create("/ledger/")).build();
    }

    private static long count(Object cart) {
        return ((Map<?, ?>) cart).values().stream().mapToLong(n -> ((Number) n).longValue()).sum();
    }

    private static String page(String user, long articles, int orders) {
        return """
            <!doctype html>
            <html lang="en">
            <meta charset="utf-8">
            <meta name="viewport" content="width=device-width, initial-scale=1">
            <title>Orders</title>
            <link rel="stylesheet" href="/style.css">
            <h1>Orders, in Java</h1>
            <nav><a href="/">Start</a> <a href="/shop/">Shop</a></nav>
            <p>You are <strong id="user">%s</strong>.</p>
            <dl>
            <dt>Articles in the cart</dt><dd id="articles">%d</dd>
            <dt>Orders</dt><dd id="orders">%d</dd>
            </dl>
            <form method="post" action="/ledger/order"><button id="order">Order</button></form>
            </html>
            """.formatted(HtmlUtils.htmlEscape(user), articles, orders);
    }
}
