<?php

declare(strict_types=1);

namespace Coatcheck\Session\Tests;

use Coatcheck\Session\Counter;
use Coatcheck\Session\Login;
use Coatcheck\Session\Problem;
use Coatcheck\Session\Session;
use Coatcheck\Session\SessionException;
use Coatcheck\Session\Value;
use Nyholm\Psr7\Factory\Psr17Factory;
use PHPUnit\Framework\TestCase;
use Psr\Http\Message\ResponseInterface;

/** The data of a user in the PSR-15 middleware. */
final class UserDataMiddlewareTest extends TestCase
{
    use PsrRequests;

    public function testUserDataIsCommittedAfterTheSession(): void
    {
        $this->configure(userFields: [new Counter('cart')]);
        $cart = new Counter('cart');
        $this->request(fn (Session $s) => $cart->add($s->userData(), 2));
        $this->request(fn (Session $s) => $s->signIn(new Login('ada')));
        $show = fn (): array => json_decode((string) $this->request(fn (Session $s): array => [
            (new Counter('n'))->get($s), $cart->get($s->userData()), $cart->get($s),
        ])->getBody());
        self::assertSame([0, 2, 0], $show());
        $change = function (Session $s) use ($cart): void {
            (new Counter('n'))->add($s);
            $cart->add($s->userData());
        };
        $this->request($change);
        self::assertSame([1, 3, 0], $show());
        // The data is over its limit: the session was committed before.
        $this->configure(maxSize: 10, userFields: [new Counter('cart')]);
        $this->log = [];
        $fill = function (Session $s): void {
            (new Value('w'))->set($s->userData(), 5);
            $data = $this->manager->userData('ada');
            (new Value('v'))->set($data, 1234);
            $data->commit();
        };
        $response = $this->request(function (Session $s) use ($fill, $change): void {
            $change($s);
            $fill($s);
        });
        self::assertSame(500, $response->getStatusCode());
        self::assertStringContainsString('TooLarge', implode($this->log));
        self::assertSame([2, 3, 0], $show());
        // A handler that knows of the error answers itself.
        $data = $this->manager->userData('ada');
        (new Value('v'))->delete($data);
        $data->commit();
        $response = $this->request(function (Session $s) use ($fill): ResponseInterface {
            $fill($s);
            try {
                $s->userData()->commit();
            } catch (SessionException $e) {
                self::assertTrue($e->is(Problem::TooLarge));
            }
            return (new Psr17Factory())->createResponse(418);
        });
        self::assertSame(418, $response->getStatusCode());
        try {
            $this->request(function (Session $s) use ($change): never {
                $change($s);
                throw new \RuntimeException('the handler fails');
            });
        } catch (\RuntimeException) {
        }
        self::assertSame([2, 3, 0], $show());
    }
}
