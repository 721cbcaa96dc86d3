<?php

declare(strict_types=1);

namespace Coatcheck\Session\Tests;

use Coatcheck\Session\Counter;
use Coatcheck\Session\Counters;
use Coatcheck\Session\Incoming;
use Coatcheck\Session\Manager;
use Coatcheck\Session\Map;
use Coatcheck\Session\Problem;
use Coatcheck\Session\Session;
use Coatcheck\Session\Store;
use Coatcheck\Session\Value;
use PHPUnit\Framework\TestCase;

/** addWithin and setWithin: what the contract suite does not say. */
final class BoundedTest extends TestCase
{
    use Refusals;

    private Manager $m;

    protected function setUp(): void
    {
        $this->m = new Manager(Store::connect(RedisServer::shared()->url, 'bounded' . bin2hex(random_bytes(6)), timeout: RedisServer::PATIENCE, persistent: false));
    }

    private function visit(?Session $before = null): Session
    {
        return $this->m->begin(Incoming::withToken($before?->out->token->text($this->m->keys), '__Host-session'));
    }

    public function testOtherChangesStayPendingAfterARefusal(): void
    {
        $stock = new Counter('stock');
        $theme = new Value('theme');
        $new = $this->visit();
        $theme->set($new, 'dark');
        $this->refused(Problem::Limit, fn () => $stock->addWithin($new, -1, 0, 20));
        self::assertNull($new->handle(), 'nothing was stored');
        self::assertSame(20, $stock->addWithin($new, 20, 0, 20));

        $stored = $this->visit($new);
        self::assertSame('dark', $theme->get($stored));
        $theme->set($stored, 'light');
        $this->refused(Problem::Limit, fn () => $stock->addWithin($stored, 1, 0, 20));
        self::assertSame('light', $theme->get($stored));
        self::assertSame('dark', $theme->get($this->visit($new)), 'nothing was stored');
        $stored->finish();
        self::assertSame('light', $theme->get($this->visit($new)));
    }

    public function testRefusalShowsWhatIsStoredNow(): void
    {
        $stock = new Counter('stock');
        $new = $this->visit();
        $stock->addWithin($new, 5, 0, 20);
        $late = $this->visit($new);
        $late->load();
        $stock->addWithin($this->visit($new), 15, 0, 20);
        $this->refused(Problem::Limit, fn () => $stock->addWithin($late, 1, 0, 20));
        self::assertSame(20, $stock->get($late));
    }

    public function testNewSessionObeysTheLimitOfItsEntries(): void
    {
        $map = new Map('m');
        $s = $this->visit();
        $map->set($s, 'a', 1);
        $map->set($s, 'b', 1);
        $this->refused(Problem::Limit, fn () => $map->setWithin($s, 'c', 1, 2));
        $this->refused(Problem::Limit, fn () => $map->setWithin($s, 'a', 2, 1));
        $this->refused(Problem::Limit, fn () => (new Counters('n'))->addWithin($s, 'a', 1, 0, 9, 0));
        $map->setWithin($s, 'a', 2, 2);
        self::assertSame(['a' => 2, 'b' => 1], iterator_to_array($map->all($this->visit($s))));
    }

    public function testCountOfANewSessionThatIsOutOfItsRangeMayComeCloser(): void
    {
        $over = new Counter('over');
        $s = $this->visit();
        $over->add($s, 18);
        $this->refused(Problem::Limit, fn () => $over->addWithin($s, 1, 0, 9));
        $this->refused(Problem::Limit, fn () => $over->addWithin($s, -19, 0, 9));
        self::assertSame(17, $over->addWithin($s, -1, 0, 9));
        $s = $this->visit();
        $over->add($s, PHP_INT_MAX);
        $this->refused(Problem::Limit, fn () => $over->addWithin($s, 1, 0, PHP_INT_MAX));
    }

    public function testArgumentThatIsNotValidChangesNothing(): void
    {
        $map = new Map('m');
        $s = $this->visit();
        $this->refused(Problem::Invalid, fn () => $map->setWithin($s, 'a', 1, -1));
        $this->refused(Problem::Invalid, fn () => $map->setWithin($s, 'a', "\xff", 1));
        $this->refused(Problem::Invalid, fn () => $map->setWithin($s, "\xff", 1, 1));
        $map->setWithin($s, 'a', 1, 1);
        $this->refused(Problem::Invalid, fn () => $map->setWithin($s, 'b', 1, -1));
        $map->setWithin($s, 'a', 2, 1);
        self::assertSame(['a' => 2], iterator_to_array($map->all($this->visit($s))));
    }
}
